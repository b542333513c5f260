//! The kernels as a table, for the terminal and for docs/cuda.md.

use super::index::{Index, IndexedKernel};
use super::ptxas::Usage;

/// The targets whose registers have a column.
const SHOWN: [u32; 2] = [80, 90];

/// One kernel's line. Stack and spills are those of the target where they are largest.
fn row(kernel: &IndexedKernel) -> Vec<String> {
    let number = |number: Option<u32>| number.map_or("-".to_owned(), |it| it.to_string());
    let largest = |of: fn(&Usage) -> u32| kernel.targets.values().map(of).max();
    let registers = SHOWN.map(|target| kernel.targets.get(&target).map(|usage| usage.registers));
    let memory = [Some(kernel.static_shared), largest(|it| it.stack), largest(Usage::spills)];
    let figures = [&[kernel.max_threads][..], &registers, &memory].concat();
    std::iter::once(format!("`{}`", kernel.name)).chain(figures.into_iter().map(number)).collect()
}

/// The table in Markdown, its columns aligned, with how it was made.
pub fn markdown(index: &Index) -> String {
    let registers = SHOWN.map(|target| format!("registers sm_{target}"));
    let [first, second] = &registers;
    let heading = ["kernel", "threads", first, second, "shared", "stack", "spills"];
    let kernels = index.modules.iter().flat_map(|module| &module.kernels).map(row);
    let rows: Vec<_> =
        std::iter::once(heading.map(str::to_owned).to_vec()).chain(kernels).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..heading.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("| {cell:<width$} |") } else { format!(" {cell:>width$} |") }
        });
        format!("{}\n", cells.collect::<String>())
    };
    let rule = format!("|---|{}\n", "---:|".repeat(heading.len() - 1));
    let mut lines: Vec<_> = rows.iter().map(line).collect();
    lines.insert(1, rule);
    let (compiler, version) = (&index.compiler, &index.ptx_version);
    let how = "Written by `cargo xtask kernels --table`";
    format!("nvcc {compiler}, PTX {version}. {how}.\n\n{}", lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::index::{FORMAT, IndexedModule};

    fn index() -> Index {
        let usage = |registers, stack, spill_loads| Usage {
            registers,
            spill_stores: 0,
            spill_loads,
            stack,
        };
        let kernels = vec![
            IndexedKernel {
                name: "copy_f32".into(),
                parameters: vec![8, 8, 4],
                max_threads: None,
                static_shared: 0,
                targets: [(80, usage(32, 0, 0)), (90, usage(16, 0, 0))].into(),
            },
            IndexedKernel {
                name: "matmul_bf16".into(),
                parameters: vec![],
                max_threads: Some(128),
                static_shared: 33_792,
                targets: [(80, usage(128, 16, 0)), (120, usage(128, 8, 4))].into(),
            },
        ];
        Index {
            format: FORMAT,
            source_hash: String::new(),
            compiler: "13.0.88".into(),
            ptx_version: "9.0".into(),
            targets: vec![80, 90, 120],
            modules: vec![IndexedModule {
                name: "sample".into(),
                file: "sample.ptx".into(),
                cubins: [].into(),
                kernels,
            }],
        }
    }

    #[test]
    fn the_table_is_aligned_and_says_how_it_was_made() {
        let text = markdown(&index());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("nvcc 13.0.88, PTX 9.0. Written by `cargo xtask kernels"));
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(lines[4]), "| `copy_f32` | - | 32 | 16 | 0 | 0 | 0 |");
        assert_eq!(words(lines[5]), "| `matmul_bf16` | 128 | 128 | - | 33792 | 16 | 4 |");
        assert!([4, 5].iter().all(|&line| lines[line].len() == lines[2].len()), "{text}");
        assert_eq!(lines[3].matches('|').count(), lines[2].matches('|').count());
    }
}
