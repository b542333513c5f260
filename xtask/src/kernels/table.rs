//! The kernels as a table, for the terminal and for docs/cuda.md.

use super::index::{Index, IndexedKernel};
use super::occupancy::{Multiprocessor, SHOWN};
use super::ptxas::Usage;

/// The block that the occupancy is computed for where the source gives no bound.
const USUAL_THREADS: u32 = 256;

/// The columns; a figure that depends on the target has one for each in `SHOWN`.
fn heading() -> Vec<String> {
    let each = |what: &str| SHOWN.iter().map(|sm| format!("{what} sm_{}", sm.target)).collect();
    let [registers, occupancy]: [Vec<String>; 2] = ["registers", "occupancy"].map(each);
    let middle = ["shared", "stack", "spills"].map(str::to_owned);
    let first = ["kernel", "threads"].map(str::to_owned);
    [first.to_vec(), registers, middle.to_vec(), occupancy].concat()
}

/// One kernel's line. Stack and spills are those of the target where they are largest.
fn row(kernel: &IndexedKernel) -> Vec<String> {
    let threads = kernel.max_threads.unwrap_or(USUAL_THREADS);
    let largest = |of: fn(&Usage) -> u32| kernel.targets.values().map(of).max().unwrap_or(0);
    let shown = |what: fn(&Multiprocessor, &Usage, u32, u32) -> String| -> Vec<String> {
        let cell = |sm: &Multiprocessor| {
            let usage = kernel.targets.get(&sm.target);
            usage.map_or("-".to_owned(), |usage| what(sm, usage, kernel.static_shared, threads))
        };
        SHOWN.iter().map(cell).collect()
    };
    let registers = shown(|_, usage, _, _| usage.registers.to_string());
    let occupancy = shown(|sm, usage, shared, threads| {
        format!("{:.0} %", 100.0 * sm.occupancy(usage.registers, shared, threads))
    });
    let figures = [kernel.static_shared, largest(|it| it.stack), largest(Usage::spills)];
    let threads = match kernel.max_threads {
        Some(threads) => threads.to_string(),
        None => format!("({USUAL_THREADS})"),
    };
    let figures = figures.map(|it| it.to_string()).to_vec();
    [vec![kernel.name.clone(), threads], registers, figures, occupancy].concat()
}

fn rows(index: &Index) -> impl Iterator<Item = Vec<String>> {
    index.modules.iter().flat_map(|module| &module.kernels).map(row)
}

/// The table in columns, for a terminal.
pub fn plain(index: &Index) -> String {
    let rows: Vec<_> = std::iter::once(heading()).chain(rows(index)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("{}\n", cells.collect::<Vec<_>>().join("  "))
    };
    rows.iter().map(line).collect()
}

/// The table in Markdown, with how it was made.
pub fn markdown(index: &Index) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let heading = heading();
    let rule = format!("|---|{}\n", "---:|".repeat(heading.len() - 1));
    let rows = rows(index).map(|mut row| {
        row[0] = format!("`{}`", row[0]);
        line(row)
    });
    let (compiler, version) = (&index.compiler, &index.ptx_version);
    format!(
        "nvcc {compiler}, PTX {version}. Written by `cargo xtask kernels --table`.\n\n{}{rule}{}",
        line(heading),
        rows.collect::<String>()
    )
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
    fn columns_are_aligned() {
        let text = plain(&index());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let first = "copy_f32 (256) 32 16 0 0 0 100 % 100 %";
        assert_eq!(words(lines[1]).join(" "), first);
        // 128 threads with 128 registers: four blocks of four warps, of 64.
        let second = "matmul_bf16 128 128 - 33792 16 4 25 % -";
        assert_eq!(words(lines[2]).join(" "), second);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
    }

    #[test]
    fn the_page_says_how_it_was_made() {
        let text = markdown(&index());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("nvcc 13.0.88, PTX 9.0. Written by `cargo xtask kernels"));
        assert_eq!(lines[4], "| `copy_f32` | (256) | 32 | 16 | 0 | 0 | 0 | 100 % | 100 % |");
        let columns = |line: &str| line.matches('|').count();
        assert!(lines[2..].iter().all(|line| columns(line) == columns(lines[2])), "{text}");
    }
}
