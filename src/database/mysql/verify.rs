//! Looking at a dump while it is made: whether all is in it that the server has.

use std::collections::BTreeSet;
use std::io::Read;

/// So much of a statement's beginning is looked at.
const MAX_HEAD_BYTES: usize = 4096;
/// So much of a line's end.
const TAIL_BYTES: usize = 16;

/// What a dump makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A table.
    Table,
    /// Rows of a table.
    Rows,
    /// A view.
    View,
    /// A sequence.
    Sequence,
    /// A trigger.
    Trigger,
    /// A procedure.
    Procedure,
    /// A function.
    Function,
    /// A package of routines (MariaDB, `sql_mode=ORACLE`).
    Package,
    /// What is in such a package.
    PackageBody,
    /// An event.
    Event,
}

impl Kind {
    /// Returns its words.
    pub fn words(self) -> &'static str {
        match self {
            Kind::Table => "table",
            Kind::Rows => "rows of the table",
            Kind::View => "view",
            Kind::Sequence => "sequence",
            Kind::Trigger => "trigger",
            Kind::Procedure => "procedure",
            Kind::Function => "function",
            Kind::Package => "package",
            Kind::PackageBody => "package body",
            Kind::Event => "event",
        }
    }

    /// Reads what information_schema calls a routine.
    pub fn of_routine(words: &str) -> Option<Kind> {
        [Kind::Procedure, Kind::Function, Kind::Package, Kind::PackageBody]
            .into_iter()
            .find(|kind| kind.words().eq_ignore_ascii_case(words))
    }
}

/// What is still to be seen in a dump.
#[derive(Debug, Default)]
pub struct Expected {
    /// What was not seen yet.
    pub missing: BTreeSet<(Kind, String)>,
    /// The beginning of the line or statement that is being read.
    head: Vec<u8>,
    /// The end of the line that is being read.
    tail: Vec<u8>,
    /// Whether a statement with lines of its own is being read: between `DELIMITER ;;` and `DELIMITER ;`.
    is_program: bool,
}

/// A stream that is looked at while it is read; what it lacks is told at its end, before its reader knows of the end.
pub struct Verified {
    inner: Box<dyn Read + Send>,
    expected: Expected,
    at_end: Option<AtEnd>,
}

/// Hears what was not seen.
type AtEnd = Box<dyn FnOnce(BTreeSet<(Kind, String)>) + Send>;

impl Verified {
    /// Looks for what is expected.
    pub fn new(
        inner: Box<dyn Read + Send>,
        expected: Expected,
        at_end: impl FnOnce(BTreeSet<(Kind, String)>) + Send + 'static,
    ) -> Self {
        Verified { inner, expected, at_end: Some(Box::new(at_end)) }
    }
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.expected.see(&buffer[..len]);
        if len == 0
            && !buffer.is_empty()
            && let Some(at_end) = self.at_end.take()
        {
            at_end(std::mem::take(&mut self.expected.missing));
        }
        Ok(len)
    }
}

impl Expected {
    /// Expects objects by kind and name.
    pub fn of(missing: BTreeSet<(Kind, String)>) -> Self {
        Expected { missing, ..Expected::default() }
    }

    /// Looks at the next bytes of a dump.
    fn see(&mut self, bytes: &[u8]) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_HEAD_BYTES.saturating_sub(self.head.len());
            self.head.extend_from_slice(&line[..line.len().min(room)]);
            self.tail.extend_from_slice(&line[line.len().saturating_sub(TAIL_BYTES)..]);
            self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
            if line.ends_with(b"\n") {
                let tail = std::mem::take(&mut self.tail);
                self.end_line(&tail);
            }
        }
    }

    fn end_line(&mut self, tail: &[u8]) {
        let is_end = tail == b"DELIMITER ;\n";
        match self.is_program {
            // The statement goes on.
            true if !(is_end || tail.ends_with(b";;\n")) => return,
            true => {
                self.is_program = !is_end;
                self.statement();
            }
            false if self.head == b"DELIMITER ;;\n" => self.is_program = true,
            false => self.line(),
        }
        self.head.clear();
    }

    /// Looks at a line that begins a statement, which rows and bodies of routines never do.
    fn line(&mut self) {
        const BEGINNINGS: [(&[u8], Kind); 7] = [
            (b"CREATE TABLE ", Kind::Table),
            (b"CREATE SEQUENCE ", Kind::Sequence),
            (b"INSERT ", Kind::Rows),
            (b"REPLACE ", Kind::Rows),
            (b"/*!50001 VIEW ", Kind::View),
            (b"/*!50001 CREATE ALGORITHM", Kind::View),
            (b"CREATE ALGORITHM", Kind::View),
        ];
        let Some((_, kind)) = BEGINNINGS.iter().find(|(beginning, _)| self.head.starts_with(beginning)) else { return };
        let after = match kind {
            Kind::Rows => "INTO",
            Kind::View => "VIEW",
            Kind::Sequence => "SEQUENCE",
            _ => "TABLE",
        };
        let mut tokens = Tokens(&self.head);
        if tokens.any(|token| token.is_word(after)) {
            self.seen(*kind, name(&mut tokens));
        }
    }

    /// Looks at the beginning of a statement that makes a program.
    fn statement(&mut self) {
        let head = std::mem::take(&mut self.head);
        let mut tokens = Tokens(&head);
        if !tokens.any(|token| token.is_word("CREATE")) {
            return;
        }
        let kinds = [Kind::Trigger, Kind::Procedure, Kind::Function, Kind::Package, Kind::Event];
        let found = tokens.find_map(|token| kinds.into_iter().find(|kind| token.is_word(kind.words())));
        let Some(mut kind) = found else { return };
        let rest = Tokens(tokens.0);
        if kind == Kind::Package && tokens.next().is_some_and(|token| token.is_word("BODY")) {
            kind = Kind::PackageBody;
        } else {
            tokens = rest;
        }
        self.seen(kind, name(&mut tokens));
    }

    fn seen(&mut self, kind: Kind, name: Option<String>) {
        let Some(name) = name else { return };
        self.missing.remove(&(kind, name));
    }
}

/// Returns the name that comes next: the last part where it names a database too.
fn name(tokens: &mut Tokens<'_>) -> Option<String> {
    let mut token = tokens.next()?;
    for word in ["IF", "NOT", "EXISTS"] {
        if token.is_word(word) {
            token = tokens.next()?;
        }
    }
    let mut rest = Tokens(tokens.0);
    match rest.next() {
        Some(Token::Other(b'.')) => rest.next()?.name(),
        _ => token.name(),
    }
}

/// A word of SQL.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a [u8]),
    Quoted(Vec<u8>),
    Other(u8),
}

impl Token<'_> {
    fn is_word(&self, word: &str) -> bool {
        matches!(self, Token::Word(found) if found.eq_ignore_ascii_case(word.as_bytes()))
    }

    fn name(self) -> Option<String> {
        match self {
            Token::Word(word) => Some(String::from_utf8_lossy(word).into_owned()),
            Token::Quoted(name) => Some(String::from_utf8_lossy(&name).into_owned()),
            Token::Other(_) => None,
        }
    }
}

/// The words of SQL. What stands in comments for certain versions only counts; other comments do not.
struct Tokens<'a>(&'a [u8]);

impl<'a> Tokens<'a> {
    fn skip(&mut self, until: &[u8]) {
        let end = self.0.windows(until.len()).position(|bytes| bytes == until);
        self.0 = &self.0[end.map_or(self.0.len(), |at| at + until.len())..];
    }

    fn quoted(&mut self, quote: u8) -> Vec<u8> {
        let mut name = Vec::new();
        let mut at = 1;
        while at < self.0.len() {
            if self.0[at] == quote {
                at += 1;
                if self.0.get(at) != Some(&quote) {
                    break;
                }
            }
            name.push(self.0[at]);
            at += 1;
        }
        self.0 = &self.0[at.min(self.0.len())..];
        name
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let first = *self.0.first()?;
            let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || *byte >= 0x80;
            match first {
                b'/' if self.0.starts_with(b"/*!") || self.0.starts_with(b"/*M!") => {
                    let digits = |byte: &u8| b"/*M!".contains(byte) || byte.is_ascii_digit();
                    let end = self.0.iter().position(|byte| !digits(byte)).unwrap_or(self.0.len());
                    self.0 = &self.0[end..];
                }
                b'/' if self.0.starts_with(b"/*") => self.skip(b"*/"),
                b'*' if self.0.starts_with(b"*/") => self.0 = &self.0[2..],
                b'#' => self.skip(b"\n"),
                b'-' if self.0.starts_with(b"-- ") => self.skip(b"\n"),
                _ if first.is_ascii_whitespace() => self.0 = &self.0[1..],
                b'`' | b'"' | b'\'' => return Some(Token::Quoted(self.quoted(first))),
                _ if is_word(&first) => {
                    let end = self.0.iter().position(|byte| !is_word(byte)).unwrap_or(self.0.len());
                    let (word, rest) = self.0.split_at(end);
                    self.0 = rest;
                    return Some(Token::Word(word));
                }
                _ => {
                    self.0 = &self.0[1..];
                    return Some(Token::Other(first));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "CREATE TABLE `a``b` (\n  `id` int\n);\nINSERT INTO `a``b` VALUES\n(1,'x\\nINSERT INTO `no`');\n\
        /*!50001 CREATE VIEW `v` AS SELECT\n 1 AS `x` */;\n\
        /*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`a VIEW`@`%` SQL SECURITY DEFINER */\n\
        /*!50001 VIEW `v` AS select 1 AS `x` */;\nCREATE SEQUENCE `sq` start with 1;\nDELIMITER ;;\n\
        /*!50003 CREATE*/ /*!50017 DEFINER=`x TRIGGER y`@`%`*/ /*!50003 trigger\n  -- why\n  `db`.tr1 before insert */;;\n\
        DELIMITER ;\nDELIMITER ;;\nCREATE DEFINER=`r`@`%` PROCEDURE `p ü`()\nBEGIN\nINSERT INTO `no` VALUES (1);\n\
        CREATE TABLE `no` (i int);\nEND ;;\nDELIMITER ;\nDELIMITER ;;\nCREATE PACKAGE BODY \"pkg\" AS END ;;\n\
        /*!50106 CREATE*/ /*!50117 DEFINER=`r`@`%`*/ /*!50106 EVENT IF NOT EXISTS `ev` ON SCHEDULE */ ;;\nDELIMITER ;\n";

    #[test]
    fn what_a_dump_makes_is_seen_however_it_is_cut() {
        let all = [
            (Kind::Table, "a`b"),
            (Kind::Rows, "a`b"),
            (Kind::View, "v"),
            (Kind::Sequence, "sq"),
            (Kind::Trigger, "tr1"),
            (Kind::Procedure, "p ü"),
            (Kind::PackageBody, "pkg"),
            (Kind::Event, "ev"),
            (Kind::Rows, "no"),
            (Kind::Table, "no"),
            (Kind::Package, "pkg"),
        ];
        for len in [1, 7, 4096] {
            let missing = all.iter().map(|(kind, name)| (*kind, name.to_string())).collect();
            let mut expected = Expected::of(missing);
            DUMP.as_bytes().chunks(len).for_each(|bytes| expected.see(bytes));
            let missing: Vec<_> = expected.missing.iter().map(|(kind, name)| (*kind, &**name)).collect();
            assert_eq!(missing, [(Kind::Table, "no"), (Kind::Rows, "no"), (Kind::Package, "pkg")], "by {len}");
        }
    }
}
