//! Compiles what has changed: PTX and machine code for each source, then the index. What a kernel
//! may not do is in `rules`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::compiler::Compiler;
use super::index::{FORMAT, Index, IndexedKernel, IndexedModule};
use super::ptx::Ptx;
use super::ptxas;
use super::rules::{self, Rules};
use super::sources::{Sources, hexadecimal};
use crate::{files, process};

/// How the sources become PTX. The virtual architecture is the lowest that has what the kernels
/// use (bf16, cp.async); line numbers cost nothing at run time and let faults name the source.
const PTX_FLAGS: [&str; 5] = ["-std=c++17", "-O3", "-arch=compute_80", "-ptx", "-lineinfo"];
/// The index's name in the folder of outputs.
const INDEX: &str = "kernels.json";
/// Outputs are made here, below the folder of outputs, and moved out when they are whole.
const WORK: &str = ".building";

/// What is built from what, and where to.
pub struct Build<'a> {
    pub sources: &'a Sources,
    pub out: &'a Path,
    pub compiler: &'a Compiler,
    pub rules: &'a Rules,
}

/// What a build did.
#[derive(Debug)]
pub struct BuildOutcome {
    pub index: Index,
    /// The modules that were compiled; the others were as they should be.
    pub compiled: Vec<String>,
    /// Modules whose source is gone, and whose outputs were removed.
    pub removed: Vec<String>,
    /// Targets that this compiler does not know.
    pub left_out: Vec<u32>,
    /// What the compiler had to say of sources that it took.
    pub warnings: Vec<String>,
}

/// What is known of a module's outputs, in a file beside them: written after them, and removed
/// after them too, so that outputs without a record never stay.
#[derive(Default, Deserialize, Serialize)]
struct BuildRecord {
    /// The hash of what the outputs were made from.
    inputs: String,
    /// What `ptxas` said, by target and kernel.
    targets: BTreeMap<u32, BTreeMap<String, ptxas::KernelResources>>,
}

impl Build<'_> {
    /// Compiles, checks, and writes the index; without a whole build there is no index.
    pub fn run(&self) -> Result<BuildOutcome> {
        let _lock = files::lock(self.out)?;
        let (targets, left_out) = self.compiler.targets()?;
        let modules: Vec<&str> = self.sources.modules().collect();
        let stale = modules.iter().copied().filter(|module| !self.is_current(module, &targets));
        let stale: Vec<&str> = stale.collect();
        let mut removed = self.recorded()?;
        removed.retain(|module| !modules.contains(&module.as_str()));

        // The index always speaks of the files that lie beside it, or is not there.
        let index = self.out.join(INDEX);
        if !stale.is_empty() || !removed.is_empty() {
            files::remove(&index)?;
        }
        for module in stale.iter().copied().chain(removed.iter().map(String::as_str)) {
            self.remove_outputs(module)?;
        }
        let warnings = self.compile_all(&stale, &targets)?;

        let (modules, ptx_version, findings) = self.read_outputs(&modules, &targets)?;
        if !findings.is_empty() {
            files::remove(&index)?;
            bail!("findings in the kernels: {}\n  {}", findings.len(), findings.join("\n  "));
        }
        let content = Index {
            format: FORMAT,
            source_hash: hexadecimal(self.sources.hash()),
            compiler: self.compiler.version.clone(),
            ptx_version,
            targets,
            modules,
        };
        let mut text = serde_json::to_string_pretty(&content).context("cannot write the index")?;
        text.push('\n');
        files::write_whole(&index, text.as_bytes())?;
        let compiled = stale.into_iter().map(str::to_owned).collect();
        Ok(BuildOutcome { index: content, compiled, removed, left_out, warnings })
    }

    /// Whether a module's outputs are there, and made from what is there now.
    fn is_current(&self, module: &str, targets: &[u32]) -> bool {
        let Ok(record) = self.record(module) else { return false };
        let cubins = targets.iter().map(|&target| cubin(module, target));
        record.inputs == self.inputs(module)
            && record.targets.keys().eq(targets)
            && cubins.chain([ptx(module)]).all(|name| self.out.join(name).is_file())
    }

    fn inputs(&self, module: &str) -> String {
        let how = format!("{}\n{}", PTX_FLAGS.join(" "), self.compiler.identity);
        hexadecimal(self.sources.inputs_hash(module, &how))
    }

    fn record(&self, module: &str) -> Result<BuildRecord> {
        Ok(serde_json::from_slice(&fs::read(self.out.join(record(module)))?)?)
    }

    /// The modules that have a record among the outputs.
    fn recorded(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.out);
        let entries = entries.with_context(|| format!("cannot read {}", self.out.display()))?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut modules: Vec<String> =
            names.filter_map(|name| Some(name.strip_suffix(&record(""))?.to_owned())).collect();
        modules.sort();
        Ok(modules)
    }

    /// Removes what a record speaks of: nothing else in the folder is ours.
    fn remove_outputs(&self, module: &str) -> Result<()> {
        // Without a record that can be read, the new outputs replace the old ones.
        let targets = self.record(module).map(|record| record.targets).unwrap_or_default();
        let cubins = targets.keys().map(|&target| cubin(module, target));
        for name in cubins.chain([ptx(module), record(module)]) {
            files::remove(&self.out.join(name))?;
        }
        Ok(())
    }

    /// Compiles modules side by side, one a core. The warnings; or all that went wrong.
    fn compile_all(&self, modules: &[&str], targets: &[u32]) -> Result<Vec<String>> {
        let work = self.out.join(WORK);
        files::remove_folder(&work)?;
        let one_at_a_time = modules.par_iter().with_max_len(1);
        let results: Vec<_> = one_at_a_time.map(|module| self.compile(module, targets)).collect();
        files::remove_folder(&work)?;

        let (mut warnings, mut failures) = (Vec::new(), Vec::new());
        for (module, result) in modules.iter().zip(results) {
            match result {
                Ok(words) => warnings.extend(words.map(|words| format!("{module}.cu: {words}"))),
                Err(error) => failures.push(format!("{module}.cu: {error:#}")),
            }
        }
        let (failed, all) = (failures.len(), modules.len());
        ensure!(failed == 0, "{failed} of {all} files did not compile\n{}", failures.join("\n"));
        Ok(warnings)
    }

    /// Makes one module's outputs, whole, and then its record. What the compiler warned of.
    fn compile(&self, module: &str, targets: &[u32]) -> Result<Option<String>> {
        let work = self.out.join(WORK).join(module);
        fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
        let mut command = Command::new(&self.compiler.nvcc);
        command.args(PTX_FLAGS).arg("-I").arg(&self.sources.folder);
        command.arg(self.sources.folder.join(format!("{module}.cu")));
        command.arg("-o").arg(work.join(ptx(module)));
        let mut warnings = said(&mut command)?;

        let mut record = BuildRecord { inputs: self.inputs(module), ..BuildRecord::default() };
        for &target in targets {
            let mut command = Command::new(&self.compiler.ptxas);
            command.arg("-v").arg(format!("-arch=sm_{target}")).arg(work.join(ptx(module)));
            command.arg("-o").arg(work.join(cubin(module, target)));
            let printed = said(&mut command)?;
            let kernels = ptxas::kernels(&printed).context("cannot read what ptxas -v prints")?;
            record.targets.insert(target, kernels);
            let notable = printed.lines().filter(|line| line.starts_with("ptxas warning"));
            notable.for_each(|line| warnings = format!("{warnings}\n{line}"));
        }
        let names = targets.iter().map(|&target| cubin(module, target)).chain([ptx(module)]);
        for name in names {
            let to = self.out.join(&name);
            fs::rename(work.join(name), &to)
                .with_context(|| format!("cannot write {}", to.display()))?;
        }
        let text = serde_json::to_vec(&record).context("cannot write the record")?;
        files::write_whole(&self.out.join(self::record(module)), &text)?;
        let warnings = warnings.trim();
        Ok((!warnings.is_empty()).then(|| warnings.to_owned()))
    }

    /// The modules as they lie there, the PTX version, and what breaks a rule. This looks at all
    /// outputs, also those of an earlier build: a rule may be newer.
    fn read_outputs(
        &self,
        modules: &[&str],
        targets: &[u32],
    ) -> Result<(Vec<IndexedModule>, String, Vec<String>)> {
        let (mut read, mut findings, mut version) = (Vec::new(), Vec::new(), String::new());
        let mut homes: BTreeMap<String, &str> = BTreeMap::new();
        for &module in modules {
            let path = self.out.join(ptx(module));
            let text = fs::read_to_string(&path);
            let text = text.with_context(|| format!("cannot read {}", path.display()))?;
            let text = Ptx::new(&text);
            let record = self.record(module).with_context(|| format!("no record of {module}"))?;
            let in_file = || path.display().to_string();
            version = text.version().with_context(in_file)?.to_owned();
            let mut kernels = Vec::new();
            for entry in text.entries().with_context(in_file)? {
                let mut found = self.rules.check_instructions(&text, &entry);
                let mut kernel = IndexedKernel {
                    name: entry.name.to_owned(),
                    parameters: entry.parameters,
                    max_threads: entry.max_threads,
                    static_shared: 0,
                    targets: BTreeMap::new(),
                };
                for (target, measured) in &record.targets {
                    let measured = measured.get(entry.name);
                    let measured = measured.with_context(|| {
                        format!("ptxas said nothing of {} for sm_{target}", entry.name)
                    })?;
                    kernel.static_shared = kernel.static_shared.max(measured.shared);
                    kernel.targets.insert(*target, measured.usage);
                }
                found.extend(rules::check_spills(&kernel));
                if let Some(other) = homes.insert(kernel.name.clone(), module) {
                    found.push(format!("{} is also in {other}.cu", kernel.name));
                }
                findings.extend(found.into_iter().map(|it| format!("{module}.cu: {it}")));
                kernels.push(kernel);
            }
            let cubins = targets.iter().map(|&target| (target, cubin(module, target))).collect();
            read.push(IndexedModule {
                name: module.to_owned(),
                file: ptx(module),
                cubins,
                kernels,
            });
        }
        Ok((read, version, findings))
    }
}

fn ptx(module: &str) -> String {
    format!("{module}.ptx")
}

fn cubin(module: &str, target: u32) -> String {
    format!("{module}.sm_{target}.cubin")
}

fn record(module: &str) -> String {
    format!("{module}.record.json")
}

/// Runs a compiler. What it said; if it failed, that is in the error.
fn said(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {}", process::shown(command)))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let name = PathBuf::from(command.get_program());
    let name = name.file_name().unwrap_or_default().display();
    ensure!(output.status.success(), "{name} failed ({})\n{}", output.status, said.trim_end());
    Ok(said)
}

#[cfg(all(test, unix))]
mod tests;
