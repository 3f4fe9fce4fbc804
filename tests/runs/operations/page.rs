//! The pages a person types from, taken apart: lines that are typed, texts that are written into files, and the rest.

use std::path::Path;

/// The pages whose every line is covered.
pub const PAGES: [&str; 4] = ["docs/operations.md", "docs/manual.md", "docs/measured.md", "README.md"];

/// Words that begin what is typed where a sentence quotes it: `bakfs prune --dry-run`.
const PROGRAMS: &str = "bakfs cargo cat cd chown cp createdb diff dropdb gcloud getfattr ln ls mariadb mariadb-install-db mkdir \
                        mount mysql pg_createcluster pg_dropcluster pg_dump pg_restore psql rm rsync set sfdisk sqlite3 ssh \
                        sudo systemctl";

/// A part of a page that needs a cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The page and the heading it stands under.
    pub place: String,
    /// Whether it is typed; a text is written into a file, or only shown.
    pub is_typed: bool,
    /// The line without its comment; a text's first line.
    pub key: String,
    /// All of it.
    pub text: String,
    /// What the page shows below the line.
    pub shown: Vec<String>,
}

/// Reads all pages.
pub fn items() -> Vec<Item> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    PAGES.iter().flat_map(|page| items_of(page, &std::fs::read_to_string(root.join(page)).unwrap())).collect()
}

/// Takes a page apart.
pub fn items_of(page: &str, text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut heading = String::new();
    let mut prose = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix('#') {
            quoted(&mut items, &place(page, &heading), &std::mem::take(&mut prose));
            heading = title.trim_start_matches(['#', ' ']).to_owned();
        } else if let Some(info) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            block_of(&mut items, &place(page, &heading), info, &block);
        } else {
            prose.push_str(line);
            prose.push(if line.is_empty() { '\n' } else { ' ' });
        }
    }
    quoted(&mut items, &place(page, &heading), &prose);
    items
}

fn place(page: &str, heading: &str) -> String {
    format!("{page}, {heading:?}")
}

/// Takes a fenced block apart: a text (a table of a configuration, paths), a session with prompts and what is shown, or
/// lines that are typed.
fn block_of(items: &mut Vec<Item>, place: &str, info: &str, block: &[&str]) {
    let first = block.iter().find(|line| !line.trim().is_empty()).unwrap_or(&"");
    let is_typed = !(info == "toml" || first.starts_with(['[', '/']));
    if !is_typed {
        let (key, text) = (without_comment(first), block.join("\n") + "\n");
        items.push(Item { place: place.into(), is_typed, key, text, shown: Vec::new() });
        return;
    }
    let has_prompts = block.iter().any(|line| line.starts_with("$ "));
    let mut goes_on = false;
    for line in block {
        // A backslash at the end makes one line of two, here as in the shell.
        if let (true, Some(item)) = (goes_on, items.last_mut()) {
            item.text = format!("{}{}", item.text.trim_end_matches('\\'), line.trim_start());
            item.key.clone_from(&item.text);
            goes_on = line.ends_with('\\');
            continue;
        }
        goes_on = line.ends_with('\\');
        let typed = match has_prompts {
            true => line.strip_prefix("$ "),
            false => Some(*line).filter(|line| !line.starts_with("# ") && !line.trim().is_empty()),
        };
        match (typed, items.last_mut()) {
            (Some(line), _) => {
                let (key, text) = (without_comment(line), without_comment(line));
                items.push(Item { place: place.into(), is_typed, key, text, shown: Vec::new() });
            }
            (None, Some(item)) if has_prompts => item.shown.push((*line).to_owned()),
            _ => {}
        }
    }
}

/// Finds what sentences quote: a program of the list and what it is told, or a variable that gets a path. Two words (`cp -a`) only name something
/// unless the second is a long option, and with `...` it is no line but a kind of line.
fn quoted(items: &mut Vec<Item>, place: &str, prose: &str) {
    for paragraph in prose.split('\n') {
        for part in paragraph.split('`').skip(1).step_by(2) {
            let words: Vec<&str> = part.split_whitespace().collect();
            let is_whole = words.len() > 2 || words.get(1).is_some_and(|word| word.starts_with("--"));
            let is_of_program = PROGRAMS.split_whitespace().any(|program| program == words[0]);
            let sets_path = words.len() > 1 && words[0].contains("=/");
            if (is_whole && is_of_program || sets_path) && !part.contains("...") {
                let (key, text) = (part.to_owned(), part.to_owned());
                items.push(Item { place: place.into(), is_typed: true, key, text, shown: Vec::new() });
            }
        }
    }
}

/// Returns a line without the remark at its end, which stands after two spaces.
fn without_comment(line: &str) -> String {
    line.split("  # ").next().unwrap_or(line).trim_end().to_owned()
}

#[test]
fn a_page_is_taken_apart() {
    let page = "# Top\nSay `bakfs prune\n--dry-run`, not `bakfs forget ... --prune` or `cp -a`.\n\n## Below\n\
                ```\nbakfs init      # makes it\n# Or\ncp a \\\n   b\n```\n```toml\n[defaults]   # all\nkeep = 1\n```\n\
                ```\n$ bakfs ls\nsaid\n$ pwd\n```\n";
    let items = items_of("page.md", page);
    let keys: Vec<_> = items.iter().map(|item| (item.is_typed, &*item.key)).collect();
    let expected = ["bakfs prune --dry-run", "bakfs init", "cp a b", "[defaults]", "bakfs ls", "pwd"];
    assert_eq!(keys, expected.map(|key| (!key.starts_with('['), key)));
    assert_eq!((items[4].shown.as_slice(), &*items[1].place), (["said".to_owned()].as_slice(), "page.md, \"Below\""));
    assert_eq!(items[3].text, "[defaults]   # all\nkeep = 1\n");
}
