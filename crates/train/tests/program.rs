//! The program as a whole: its help, what shells complete, the manual page.

mod vitrine_program;

use vitrine_program::vitrine;

#[test]
fn shells_complete_every_command_and_each_has_an_example() {
    let help = vitrine(&["--help"]).succeeded();
    assert!(help.contains("Exit codes: 0 done; 1 failed"), "{help}");
    let (_, listed) = help.split_once("Commands:\n").unwrap();
    let commands: Vec<&str> = listed
        .lines()
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() >= 11, "{commands:?}");
    let completions = vitrine(&["completions", "bash"]).succeeded();
    for command in commands {
        assert!(completions.contains(command), "{command}");
        let help = vitrine(&[command, "--help"]).succeeded();
        assert!(help.contains(&format!("Example: vitrine {command}")), "{help}");
    }
    let page = vitrine(&["completions"]).succeeded();
    assert!(
        page.contains(".TH vitrine 1") && page.contains("Trains vision transformers"),
        "{page}"
    );
    vitrine(&["completions", "cmd"]).refused(&["bash"]);
}
