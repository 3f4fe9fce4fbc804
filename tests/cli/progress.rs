//! Progress on a terminal: share, total, time left and the file at hand, in whatever width there is.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::{noise, process, write};

/// Runs a command on a terminal of so many columns; returns the lines it showed, redrawn ones too.
fn lines_on(bakfs: &Bakfs, columns: usize, line: &str) -> Vec<String> {
    let mut command = bakfs.wrap("script");
    let line = format!("stty cols {columns} rows 24; exec {} {line}", env!("CARGO_BIN_EXE_bakfs"));
    command.env("TERM", "xterm").args(["-q", "-e", "-c", &line, "/dev/null"]);
    let text = process::run(command).expect(0).text();
    let mut lines = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            // An order to the terminal: it ends with a letter (ECMA-48, 5.4).
            '\u{1b}' => {
                characters.find(char::is_ascii_alphabetic);
                lines.push(String::new());
            }
            '\r' | '\n' => lines.push(String::new()),
            _ => lines.last_mut().unwrap().push(character),
        }
    }
    // What is drawn is filled up to the width, and goes on in the next line by itself.
    let characters: Vec<Vec<char>> = lines.iter().map(|line| line.chars().collect()).collect();
    let drawn = characters.iter().flat_map(|line| line.chunks(columns)).map(|part| part.iter().collect::<String>());
    drawn.map(|line| line.trim_end().to_string()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn a_first_backup_and_a_restore_show_total_share_and_file_in_eighty_and_forty_columns() {
    let (bakfs, source) = Bakfs::with_source();
    let bytes = noise(7, 12 << 20);
    for number in 0..8 {
        write(&source.join(format!("folder-{number}/{}-é", "long-name".repeat(12))), &bytes[number..]);
    }
    for (at, columns) in [80usize, 40].into_iter().enumerate() {
        // Each is the first backup of its host: nothing tells the total but a count.
        let backup = format!("backup --host host-{at} --time 2026-01-0{} {}", at + 1, source.display());
        let restore = format!("restore hosts/host-{at}/latest {}", bakfs.path(&format!("out-{at}")).display());
        for (verb, line) in [("Backing up", backup), ("Restoring", restore)] {
            let shown: Vec<_> = lines_on(&bakfs, columns, &line);
            let progress: Vec<_> = shown.iter().filter(|line| line.starts_with(verb) && !line.contains("Z ")).collect();
            assert!(progress.iter().any(|line| line.contains(" %")), "no share: {shown:#?}");
            let with_total = progress.iter().any(|line| line.contains(" of 96.0 MiB"));
            assert!(with_total || columns < 80, "no total: {shown:#?}");
            // A restore may be done before a second look.
            let has_file = shown.iter().any(|line| line.ends_with("-é") && line.starts_with("..."));
            assert!(has_file || verb == "Restoring", "no file: {shown:#?}");
            for line in progress {
                assert!(line.chars().count() < columns, "`{line}` is too long for {columns} columns");
            }
        }
    }
}

/// Where nobody looks, nothing is counted and nothing shown.
#[test]
fn without_a_terminal_there_is_no_progress_and_no_count() {
    let (bakfs, source) = Bakfs::with_source();
    let outcome = bakfs.ok(["backup".as_ref(), source.as_os_str()]);
    assert!(outcome.stderr.is_empty() && outcome.stdout.is_empty(), "{outcome}");
}
