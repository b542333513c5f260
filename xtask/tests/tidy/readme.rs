//! README and CI agree on the test command.

/// The last command of `.ci/run` must stand in a code block of the README, on a line of its own.
pub fn check(readme: &str, ci: &str) -> Vec<String> {
    let mut lines = ci.lines().map(str::trim);
    let Some(command) = lines.rfind(|line| !line.is_empty() && !line.starts_with('#')) else {
        return vec![".ci/run: no command".to_owned()];
    };
    if code_lines(readme).any(|line| line == command) {
        return Vec::new();
    }
    vec![format!("README.md: no code block has the test command of .ci/run, `{command}`")]
}

/// The lines in fenced code blocks, without a prompt and without a remark at the end.
fn code_lines(markdown: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    let lines = markdown.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        inside && !fence
    });
    lines.map(|line| {
        let line = line.split(" #").next().unwrap_or(line).trim();
        line.strip_prefix("$ ").unwrap_or(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CI: &str = "#!/bin/sh\nset -e\n\ncargo xtask test\n# the end\n";

    #[test]
    fn a_readme_with_the_command_passes() {
        for line in ["cargo xtask test", "$ cargo xtask test", "cargo xtask test   # all checks"] {
            assert_eq!(check(&format!("# V\n```sh\n{line}\n```\n"), CI), [""; 0], "{line}");
        }
    }

    #[test]
    fn a_readme_without_the_command_is_found() {
        for text in [
            "",
            "cargo xtask test",
            "```\ncargo test\n```",
            "```\ncargo xtask test --quick\n```",
            "```\nls\n```\ncargo xtask test\n```\nls\n```",
        ] {
            assert_eq!(check(text, CI).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_ci_without_a_command_is_found() {
        assert_eq!(check("```\ncargo xtask test\n```", "#!/bin/sh\n").len(), 1);
    }
}
