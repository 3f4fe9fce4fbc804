//! What differs between two trees: equal pages are passed without reading them.

use crate::error::{Error, Result};
use crate::format::tree::{Entry, Node};
use crate::json;
use crate::repo::Repository;
use crate::repo::read::cursor::{Cursor, Gap, Head};
use crate::repo::read::walk::{MAX_DEPTH, Visitor, shown_path, too_deep};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::cmp::Ordering;

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Only the second tree has it.
    Added,
    /// Only the first tree has it.
    Removed,
    /// Its content, target or device number differs.
    Content,
    /// Only what stat(2) or listxattr(2) tell differs.
    Metadata,
    /// It is of another type.
    Type,
}

/// One difference.
pub struct Change<'c> {
    /// How it differs.
    pub kind: Kind,
    /// Where: absolute.
    pub path: &'c [u8],
    /// What differs of an entry both have.
    pub fields: Vec<&'static str>,
}

impl Serialize for Change<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("change", &self.kind)?;
        map.serialize_entry("fields", &self.fields)?;
        json::name(&mut map, "path", self.path)?;
        map.end()
    }
}

/// Takes what [`run`] finds, in order of paths. An error ends the comparison.
pub trait Sink {
    /// Takes a difference.
    fn change(&mut self, change: &Change<'_>) -> Result<()>;
    /// Takes what could not be read, on either side: nothing is said about it.
    fn damage(&mut self, path: &[u8], error: Error) -> Result<()>;
}

/// How two trees are compared.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Also tells what merely follows from other changes or from how the source keeps its files: times and
    /// link counts of directories, ctime, birth time, inode numbers, allocated blocks, marks.
    pub all_fields: bool,
}

/// Compares two entries and everything below them. Contents are equal where their extents are: holes
/// that moved are a change.
pub fn run(
    repository: &Repository,
    path: &[u8],
    before: Option<&Entry>,
    after: Option<&Entry>,
    options: Options,
    sink: &mut dyn Sink,
) -> Result<()> {
    let mut diff = Diff { repository, options, sink, path: path.to_vec(), stack: Vec::new() };
    match (before, after) {
        (Some(before), Some(after)) => diff.both(before, after)?,
        (Some(before), None) => diff.alone(Kind::Removed, before)?,
        (None, Some(after)) => diff.alone(Kind::Added, after)?,
        (None, None) => {}
    }
    diff.directories()
}

struct Side<'a> {
    cursor: Cursor<'a>,
    gaps: Vec<Gap>,
}

impl<'a> Side<'a> {
    fn new(repository: &'a Repository, page: &crate::format::tree::Directory) -> Self {
        Side { cursor: Cursor::new(repository, page), gaps: Vec::new() }
    }
}

struct Pair<'a> {
    before: Side<'a>,
    after: Side<'a>,
    path_len: usize,
}

struct Diff<'a> {
    repository: &'a Repository,
    options: Options,
    sink: &'a mut dyn Sink,
    path: Vec<u8>,
    stack: Vec<Pair<'a>>,
}

/// What to do next in a pair of directories.
enum Step {
    Leave,
    SkipPages,
    Read(bool, bool),
    Before(Entry),
    After(Entry),
    Both(Box<(Entry, Entry)>),
    Equal,
}

impl Pair<'_> {
    fn step(&self) -> Step {
        let (before, after) = (&self.before.cursor, &self.after.cursor);
        if before.whole_page().is_some() && before.whole_page() == after.whole_page() {
            return Step::SkipPages;
        }
        match (before.head(), after.head()) {
            (Head::End, Head::End) => Step::Leave,
            // The higher page is opened first, so that both come to pages of one level.
            (Head::Page { level: a }, Head::Page { level: b }) => Step::Read(a >= b, b >= a),
            (Head::Page { .. }, _) => Step::Read(true, false),
            (_, Head::Page { .. }) => Step::Read(false, true),
            (Head::Entry(a), Head::End) => Step::Before(a.clone()),
            (Head::End, Head::Entry(b)) => Step::After(b.clone()),
            (Head::Entry(a), Head::Entry(b)) => match a.name.cmp(&b.name) {
                Ordering::Less => Step::Before(a.clone()),
                Ordering::Greater => Step::After(b.clone()),
                Ordering::Equal if a == b => Step::Equal,
                Ordering::Equal => Step::Both(Box::new((a.clone(), b.clone()))),
            },
        }
    }
}

impl Diff<'_> {
    fn directories(&mut self) -> Result<()> {
        while let Some(pair) = self.stack.last_mut() {
            self.path.truncate(pair.path_len);
            match pair.step() {
                Step::Leave => drop(self.stack.pop()),
                Step::SkipPages => {
                    pair.before.cursor.skip();
                    pair.after.cursor.skip();
                }
                Step::Equal => {
                    pair.before.cursor.pass();
                    pair.after.cursor.pass();
                }
                Step::Read(before, after) => {
                    for (side, wanted) in [(&mut pair.before, before), (&mut pair.after, after)] {
                        if wanted && let Err((gap, error)) = side.cursor.read() {
                            side.gaps.push(gap);
                            self.sink.damage(shown_path(&self.path), error)?;
                        }
                    }
                }
                Step::Before(entry) => {
                    pair.before.cursor.pass();
                    if !pair.after.gaps.iter().any(|gap| gap.holds(&entry.name)) {
                        self.below(&entry.name, |diff| diff.alone(Kind::Removed, &entry))?;
                    }
                }
                Step::After(entry) => {
                    pair.after.cursor.pass();
                    if !pair.before.gaps.iter().any(|gap| gap.holds(&entry.name)) {
                        self.below(&entry.name, |diff| diff.alone(Kind::Added, &entry))?;
                    }
                }
                Step::Both(entries) => {
                    pair.before.cursor.pass();
                    pair.after.cursor.pass();
                    self.below(&entries.0.name, |diff| diff.both(&entries.0, &entries.1))?;
                }
            }
        }
        Ok(())
    }

    fn below(&mut self, name: &[u8], work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.path.push(b'/');
        self.path.extend_from_slice(name);
        work(self)
    }

    fn tell(&mut self, kind: Kind, fields: Vec<&'static str>) -> Result<()> {
        self.sink.change(&Change { kind, path: shown_path(&self.path), fields })
    }

    fn both(&mut self, before: &Entry, after: &Entry) -> Result<()> {
        if std::mem::discriminant(&before.node) != std::mem::discriminant(&after.node) {
            self.tell(Kind::Type, vec!["type"])?;
            self.contents_alone(Kind::Removed, before)?;
            return self.contents_alone(Kind::Added, after);
        }
        let content = content_fields(before, after);
        let is_content = !content.is_empty();
        let mut fields = content;
        fields.extend(meta_fields(before, after, self.options.all_fields));
        if !fields.is_empty() {
            self.tell(if is_content { Kind::Content } else { Kind::Metadata }, fields)?;
        }
        if let (Node::Directory(a), Node::Directory(b)) = (&before.node, &after.node)
            && a.page != b.page
        {
            if self.stack.len() >= MAX_DEPTH {
                return self.sink.damage(&self.path, too_deep());
            }
            self.stack.push(Pair {
                before: Side::new(self.repository, a),
                after: Side::new(self.repository, b),
                path_len: self.path.len(),
            });
        }
        Ok(())
    }

    fn alone(&mut self, kind: Kind, entry: &Entry) -> Result<()> {
        self.tell(kind, Vec::new())?;
        self.contents_alone(kind, entry)
    }

    fn contents_alone(&mut self, kind: Kind, entry: &Entry) -> Result<()> {
        let Node::Directory(directory) = &entry.node else { return Ok(()) };
        let mut alone = Alone { kind, sink: self.sink };
        self.repository.walk(&self.path, directory, &mut alone)
    }
}

struct Alone<'s> {
    kind: Kind,
    sink: &'s mut dyn Sink,
}

impl Visitor for Alone<'_> {
    fn entry(&mut self, path: &[u8], _entry: &Entry) -> Result<bool> {
        self.sink.change(&Change { kind: self.kind, path, fields: Vec::new() })?;
        Ok(true)
    }

    fn damage(&mut self, path: &[u8], error: Error) -> Result<()> {
        self.sink.damage(path, error)
    }
}

fn content_fields(a: &Entry, b: &Entry) -> Vec<&'static str> {
    match (&a.node, &b.node) {
        (Node::File(x), Node::File(y)) => {
            let size = (a.meta.size_bytes != b.meta.size_bytes).then_some("size");
            (x != y).then_some("content").into_iter().chain(size).collect()
        }
        (Node::Symlink(x), Node::Symlink(y)) => (x != y).then_some("target").into_iter().collect(),
        (Node::Directory(_), Node::Directory(_)) => Vec::new(),
        (x, y) => (x != y).then_some("device").into_iter().collect(),
    }
}

fn meta_fields(a: &Entry, b: &Entry, all: bool) -> impl Iterator<Item = &'static str> {
    let is_directory = matches!(a.node, Node::Directory(_));
    let is_file = matches!(a.node, Node::File(_));
    let (a, b) = (&a.meta, &b.meta);
    [
        ("mode", a.mode != b.mode),
        ("uid", a.uid != b.uid),
        ("gid", a.gid != b.gid),
        ("xattrs", a.xattrs != b.xattrs),
        ("mtime", a.mtime != b.mtime && (all || !is_directory)),
        ("ctime", all && a.ctime != b.ctime),
        ("btime", all && a.btime != b.btime),
        ("inode", all && (a.ino != b.ino || a.link_device != b.link_device)),
        ("links", all && a.nlink != b.nlink),
        ("size", all && !is_file && a.size_bytes != b.size_bytes),
        ("blocks", all && a.blocks != b.blocks),
        ("marks", all && a.marks != b.marks),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
}
