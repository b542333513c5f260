//! The generated part of a page in docs/: what stands between two markers. What goes there is for
//! the task that writes it.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::{files, process};

/// A page as it is, with a place between `<!-- NAME: begin -->` and `<!-- NAME: end -->`.
pub struct Generated {
    page: &'static str,
    name: &'static str,
    text: String,
}

impl Generated {
    /// Reads the page, so that a missing marker shows before the work, not after it.
    pub fn open(page: &'static str, name: &'static str) -> Result<Self> {
        let text = fs::read_to_string(process::root().join(page));
        let text = text.with_context(|| format!("cannot read {page}"))?;
        let this = Self { page, name, text };
        this.with(&this.text, "")?;
        Ok(this)
    }

    /// Puts `inner` between the markers.
    pub fn write(&self, inner: &str) -> Result<()> {
        let page = process::root().join(self.page);
        // Read again: the work took a while, and somebody may have edited the page.
        let now = fs::read_to_string(&page);
        let text = self.with(now.as_deref().unwrap_or(&self.text), inner)?;
        files::write_whole(&page, text.as_bytes())
    }

    /// The page's text with `inner` in place of what stands between the markers.
    fn with(&self, text: &str, inner: &str) -> Result<String> {
        let Self { page, name, .. } = self;
        let [begin, end] = ["begin", "end"].map(|which| format!("<!-- {name}: {which} -->"));
        for marker in [&begin, &end] {
            let count = text.matches(marker).count();
            ensure!(count == 1, "{page} has {count} lines `{marker}`: it needs one");
        }
        let (before, rest) = text.split_once(&begin).unwrap_or_default();
        let after = rest.split_once(&end).map(|(_, after)| after);
        let after = after.with_context(|| format!("{page} has `{end}` before `{begin}`"))?;
        let inner = inner.trim_end();
        let inner = if inner.is_empty() { String::new() } else { format!("{inner}\n\n") };
        Ok(format!("{before}{begin}\n\n{inner}{end}{after}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- sample: begin -->";
    const END: &str = "<!-- sample: end -->";

    fn with(text: &str, inner: &str) -> Result<String> {
        Generated { page: "docs/sample.md", name: "sample", text: String::new() }.with(text, inner)
    }

    #[test]
    fn results_go_between_the_markers_again_and_again() {
        let page = format!("# A\n\n{BEGIN}\n{END}\n\n## B\n");
        let once = with(&page, "new\n\n").unwrap();
        assert_eq!(once, format!("# A\n\n{BEGIN}\n\nnew\n\n{END}\n\n## B\n"));
        assert_eq!(with(&once, "new").unwrap(), once);
        assert!(!with(&once, "other").unwrap().contains("new"));
    }

    #[test]
    fn markers_that_are_missing_or_wrong_are_named() {
        let refused = |page: &str| with(page, "x").unwrap_err().to_string();
        assert!(refused("# A\n").contains(BEGIN));
        assert!(refused(&format!("{BEGIN}\n")).contains(END));
        assert!(refused(&format!("{END}\n{BEGIN}\n")).contains("before"));
        assert!(refused(&format!("{BEGIN}\n{BEGIN}\n{END}\n")).contains("2 lines"));
    }

    #[test]
    fn a_page_without_the_markers_is_refused_at_once() {
        let error = Generated::open("README.md", "sample").map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("README.md has 0 lines"), "{error}");
        assert!(Generated::open("docs/absent.md", "sample").is_err());
    }
}
