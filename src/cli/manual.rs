//! Pages of the manual made of pages of the documentation.

/// Makes a page of the manual (man(7)) of a page in Markdown as this project writes it: headings, paragraphs, tables of
/// two columns, and words in backquotes.
pub fn page(name: &str, section: u8, about: &str, markdown: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(".TH {name} {section} \"\" \"bakfs {version}\"\n.SH NAME\n{name} \\- {about}\n");
    let mut lines = markdown.lines().peekable();
    let mut is_text = false;
    while let Some(line) = lines.next() {
        if line.starts_with("# ") {
            page.push_str(".SH DESCRIPTION\n");
        } else if let Some(heading) = line.strip_prefix("## ") {
            page.push_str(&format!(".SH \"{}\"\n", escaped(&heading.to_uppercase())));
        } else if let Some(row) = line.strip_prefix("| ") {
            // The line below a table's head.
            if lines.peek().is_some_and(|next| next.starts_with("|---")) {
                lines.next();
                continue;
            }
            let row = row.trim_end().trim_end_matches('|');
            let (left, right) = row.split_once(" | ").unwrap_or((row, ""));
            page.push_str(&format!(".TP\n{}\n{}\n", inline(left.trim()), inline(right.trim())));
        } else if line.is_empty() {
            is_text = false;
            continue;
        } else {
            if !is_text && !page.ends_with("DESCRIPTION\n") {
                page.push_str(".PP\n");
            }
            page.push_str(&inline(line));
            page.push('\n');
        }
        is_text = !line.starts_with('#') && !line.starts_with('|');
    }
    page
}

/// Sets words in backquotes in bold; a line begins with nothing that roff would take for a request.
fn inline(text: &str) -> String {
    let mut line = String::new();
    for (at, part) in text.split('`').enumerate() {
        let part = escaped(part);
        line.push_str(&if at % 2 == 1 { format!("\\fB{part}\\fR") } else { part });
    }
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
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
        let found =
            page("x", 7, "about", "# X\nText `a-b`\nmore.\n\n## Part\n| a | b |\n|---|---|\n| `\\*` | `~` |\n\n.end\n");
        let wanted = ".SH DESCRIPTION\nText \\fBa\\-b\\fR\nmore.\n.SH \"PART\"\n.TP\n\\fB\\(rs*\\fR\n\\fB\\(ti\\fR\n\
                      .PP\n\\&.end\n";
        assert!(found.ends_with(wanted), "{found}");
    }
}
