//! Pages of the manual made of the command line's own definition and of pages of the documentation.

use clap_mangen::Man;
use std::collections::BTreeMap;
use std::io;

/// The page of the pattern language.
const PATTERNS: &str = include_str!("../../docs/patterns.md");
/// The page of the configuration.
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
/// What every page of a command has.
const COMMON: &str = include_str!("../../docs/manual.md");
/// How the headings of examples begin, before a command's name.
const EXAMPLES: &str = "Examples of ";

/// Makes all pages, by the names of their files.
pub fn pages(command: clap::Command) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = BTreeMap::new();
    add(&command, &sections(COMMON), &mut pages)?;
    for (name, section, about, text) in [
        ("bakfs-patterns", 7, "names of files that bakfs leaves out, restores or finds", PATTERNS),
        ("bakfs.toml", 5, "what bakfs backs up, when, and how long it is kept", CONFIGURATION),
    ] {
        pages.insert(format!("{name}.{section}"), page(name, section, about, text).into_bytes());
    }
    Ok(pages)
}

/// Makes the page of the program itself.
pub fn main_page(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut pages = pages(command)?;
    pages.remove("bakfs.1").ok_or_else(|| io::Error::other("there is no page of the program itself"))
}

fn add(command: &clap::Command, common: &[(&str, &str)], pages: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        add(command, common, pages)?;
    }
    let man = Man::new(command.clone()).manual("bakfs");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut text = String::new();
    // What the program's own help ends with is told by the sections of every page.
    let notes = command.get_after_long_help().or(command.get_after_help()).filter(|_| command.get_name() != "bakfs");
    if let Some(notes) = notes {
        set_section("Notes", &notes.to_string(), &mut text);
    }
    for (heading, section) in common {
        match heading.strip_prefix(EXAMPLES) {
            None => set_section(heading, section, &mut text),
            Some(name) if name == name_of(command) => set_section("Examples", section, &mut text),
            Some(_) => {}
        }
    }
    page.extend(text.into_bytes());
    pages.insert(man.get_filename(), page);
    Ok(())
}

/// Returns a command's whole name, as `config check`.
fn name_of(command: &clap::Command) -> &str {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    name.strip_prefix("bakfs ").unwrap_or(name)
}

/// Returns the sections of a page with their headings.
fn sections(markdown: &str) -> Vec<(&str, &str)> {
    let parts = markdown.split("\n## ").skip(1);
    parts.map(|part| part.split_once('\n').unwrap_or((part, ""))).collect()
}

/// Makes a page of the manual (man(7)) of a page in Markdown as this project writes it.
fn page(name: &str, section: u8, about: &str, markdown: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(".TH {name} {section} \"\" \"bakfs {version}\"\n.SH NAME\n{} \\- {about}\n", escaped(name));
    let body = markdown.split_once('\n').map_or("", |(_, body)| body);
    let (first, _) = body.split_once("\n## ").unwrap_or((body, ""));
    set_section("Description", first, &mut page);
    for (heading, section) in sections(body) {
        set_section(heading, section, &mut page);
    }
    page
}

/// Adds a section: paragraphs, tables of two columns, lists, examples, and words in backquotes.
fn set_section(heading: &str, markdown: &str, page: &mut String) {
    page.push_str(&format!(".SH \"{}\"\n", escaped(&heading.replace('`', "").to_uppercase())));
    let (mut lines, mut is_first) = (markdown.lines().peekable(), true);
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            page.push_str(".PP\n.nf\n.RS 4\n");
            for line in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                page.push_str(&format!("{}\n", guarded(&escaped(line))));
            }
            page.push_str(".RE\n.fi\n");
        } else if let Some(row) = line.strip_prefix("| ") {
            // The line below a table's head.
            if lines.peek().is_some_and(|next| next.starts_with("|---")) {
                lines.next();
                continue;
            }
            let row = row.trim_end().trim_end_matches('|');
            let (left, right) = row.split_once(" | ").unwrap_or((row, ""));
            page.push_str(&format!(".TP\n{}\n{}\n", inline(left.trim()), inline(right.trim())));
        } else if !line.is_empty() {
            // What is quoted may go on in the next line.
            let mut text = line.trim_start().to_string();
            while let Some(next) = lines.next_if(|next| !(next.is_empty() || is_begin(next))) {
                text.push('\n');
                text.push_str(next.trim_start());
            }
            match text.strip_prefix("- ") {
                Some(item) => page.push_str(&format!(".IP \\(bu 2\n{}\n", inline(item))),
                None if is_first => page.push_str(&format!("{}\n", inline(&text))),
                None => page.push_str(&format!(".PP\n{}\n", inline(&text))),
            }
        }
        is_first &= line.is_empty();
    }
}

/// Returns whether a line begins something of its own.
fn is_begin(line: &str) -> bool {
    ["```", "| ", "- "].iter().any(|beginning| line.starts_with(beginning))
}

/// Returns a line that roff does not take for a request.
fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_string() }
}

/// Sets words in backquotes in bold, and links without where they lead.
fn inline(text: &str) -> String {
    let mut set = String::new();
    // What is bold in a paragraph is a heading in all but name.
    for (at, part) in without_links(&text.replace("**", "")).split('`').enumerate() {
        let part = escaped(part);
        set.push_str(&if at % 2 == 1 { format!("\\fB{part}\\fR") } else { part });
    }
    set.lines().map(guarded).collect::<Vec<_>>().join("\n")
}

/// Returns a text in which links are only their words.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let Some(((start, words), (_, end))) = before.rsplit_once('[').zip(after.split_once(')')) else { break };
        plain.push_str(start);
        plain.push_str(words);
        rest = end;
    }
    plain + rest
}

/// Escapes what roff reads (groff_char(7)).
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut line, char| {
        match char {
            '\\' => line.push_str("\\(rs"),
            '-' => line.push_str("\\-"),
            '~' => line.push_str("\\(ti"),
            '^' => line.push_str("\\(ha"),
            _ => line.push(char),
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_in_markdown_becomes_one_of_the_manual() {
        let found = page(
            "x",
            7,
            "about",
            "# X\nText `a-b\nc`\nmore.\n\n## Part\n| a | b |\n|---|---|\n| `\\*` | [~](y.md) |\n\n.end\n```toml\n.a = 1\n```\n- one\n",
        );
        let wanted = ".SH \"DESCRIPTION\"\nText \\fBa\\-b\nc\\fR\nmore.\n.SH \"PART\"\n.TP\n\\fB\\(rs*\\fR\n\\(ti\n\
                      .PP\n\\&.end\n.PP\n.nf\n.RS 4\n\\&.a = 1\n.RE\n.fi\n.IP \\(bu 2\none\n";
        assert!(found.ends_with(wanted), "{found}");
    }
}
