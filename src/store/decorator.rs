//! A store around another one.

use super::{Hints, ListedObject, Names, Object, ObjectKind, Room, Store, Traffic, Wait};
use crate::error::Result;
use std::ops::Range;

/// A store around another one, which states only what it changes: all else, hints too, is what the inner one does.
///
/// Objects are read in three ways ([`Store::read_at`], [`Store::read_through`], [`Store::read_whole`]), and none of the
/// inner store's is made of another here: who changes what is read states all three.
///
/// In a file that imports this trait and [`Store`] a method of such a store is named by its trait, `Store::put(&store, ..)`.
pub trait Decorator: Send + Sync {
    /// Returns the store inside.
    fn inner(&self) -> &dyn Store;

    /// [`Store::put`].
    fn put(&self, object: Object, bytes: &[u8]) -> Result<()> {
        self.inner().put(object, bytes)
    }

    /// [`Store::barrier`].
    fn barrier(&self, names: Names) -> Result<()> {
        self.inner().barrier(names)
    }

    /// [`Store::len_bytes`].
    fn len_bytes(&self, object: Object) -> Result<u64> {
        self.inner().len_bytes(object)
    }

    /// [`Store::read_at`].
    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], wait: Wait) -> Result<()> {
        self.inner().read_at(object, offset, buffer, wait)
    }

    /// [`Store::read_through`].
    fn read_through(&self, object: Object, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        self.inner().read_through(object, range, each)
    }

    /// [`Store::list`].
    fn list(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        self.inner().list(kind)
    }

    /// [`Store::delete`].
    fn delete(&self, object: Object) -> Result<()> {
        self.inner().delete(object)
    }

    /// [`Store::sweep`].
    fn sweep(&self) -> Result<u64> {
        self.inner().sweep()
    }

    /// [`Store::location`].
    fn location(&self) -> String {
        self.inner().location()
    }

    /// [`Store::address`].
    fn address(&self) -> String {
        self.inner().address()
    }

    /// [`Store::read_whole`].
    fn read_whole(&self, object: Object, max_bytes: u64) -> Result<Vec<u8>> {
        self.inner().read_whole(object, max_bytes)
    }

    /// [`Hints::expect_len`].
    fn expect_len(&self, object: Object, len_bytes: u64) {
        self.inner().expect_len(object, len_bytes);
    }

    /// [`Hints::want`].
    fn want(&self, object: Object, range: Range<u64>) {
        self.inner().want(object, range);
    }

    /// [`Hints::max_wanted_bytes`].
    fn max_wanted_bytes(&self) -> u64 {
        self.inner().max_wanted_bytes()
    }

    /// [`Hints::absent_bytes`].
    fn absent_bytes(&self, object: Object, range: Range<u64>) -> u64 {
        self.inner().absent_bytes(object, range)
    }

    /// [`Hints::distrust`].
    fn distrust(&self, object: Object, range: Range<u64>) -> bool {
        self.inner().distrust(object, range)
    }

    /// [`Hints::copied_since_secs`].
    fn copied_since_secs(&self, object: Object) -> Option<u64> {
        self.inner().copied_since_secs(object)
    }

    /// [`Hints::connections`].
    fn connections(&self) -> usize {
        self.inner().connections()
    }

    /// [`Hints::is_far`].
    fn is_far(&self) -> bool {
        self.inner().is_far()
    }

    /// [`Hints::close_idle`].
    fn close_idle(&self) {
        self.inner().close_idle();
    }

    /// [`Hints::room`].
    fn room(&self) -> Option<Room> {
        self.inner().room()
    }

    /// [`Hints::traffic`].
    fn traffic(&self) -> Traffic {
        self.inner().traffic()
    }
}

// A method that is missing here would be the default's, whatever the inner store says: the lint demands it.
#[deny(clippy::missing_trait_methods)]
impl<D: Decorator> Store for D {
    fn put(&self, object: Object, bytes: &[u8]) -> Result<()> {
        Decorator::put(self, object, bytes)
    }

    fn barrier(&self, names: Names) -> Result<()> {
        Decorator::barrier(self, names)
    }

    fn len_bytes(&self, object: Object) -> Result<u64> {
        Decorator::len_bytes(self, object)
    }

    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], wait: Wait) -> Result<()> {
        Decorator::read_at(self, object, offset, buffer, wait)
    }

    fn read_through(&self, object: Object, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        Decorator::read_through(self, object, range, each)
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        Decorator::list(self, kind)
    }

    fn delete(&self, object: Object) -> Result<()> {
        Decorator::delete(self, object)
    }

    fn sweep(&self) -> Result<u64> {
        Decorator::sweep(self)
    }

    fn location(&self) -> String {
        Decorator::location(self)
    }

    fn address(&self) -> String {
        Decorator::address(self)
    }

    fn read_whole(&self, object: Object, max_bytes: u64) -> Result<Vec<u8>> {
        Decorator::read_whole(self, object, max_bytes)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<D: Decorator> Hints for D {
    fn expect_len(&self, object: Object, len_bytes: u64) {
        Decorator::expect_len(self, object, len_bytes);
    }

    fn want(&self, object: Object, range: Range<u64>) {
        Decorator::want(self, object, range);
    }

    fn max_wanted_bytes(&self) -> u64 {
        Decorator::max_wanted_bytes(self)
    }

    fn absent_bytes(&self, object: Object, range: Range<u64>) -> u64 {
        Decorator::absent_bytes(self, object, range)
    }

    fn distrust(&self, object: Object, range: Range<u64>) -> bool {
        Decorator::distrust(self, object, range)
    }

    fn copied_since_secs(&self, object: Object) -> Option<u64> {
        Decorator::copied_since_secs(self, object)
    }

    fn connections(&self) -> usize {
        Decorator::connections(self)
    }

    fn is_far(&self) -> bool {
        Decorator::is_far(self)
    }

    fn close_idle(&self) {
        Decorator::close_idle(self);
    }

    fn room(&self) -> Option<Room> {
        Decorator::room(self)
    }

    fn traffic(&self) -> Traffic {
        Decorator::traffic(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ObjectId;
    use parking_lot::Mutex;
    use std::collections::BTreeSet;

    const OBJECT: Object = Object::Pack(ObjectId([7; 32]));

    /// Writes down what it is asked, and answers otherwise than a store that has nothing to tell.
    #[derive(Default)]
    struct Recording(Mutex<BTreeSet<String>>);

    impl Recording {
        fn note(&self, name: &str, args: &str) {
            self.0.lock().insert(format!("{name} {args}"));
        }
    }

    #[deny(clippy::missing_trait_methods)]
    impl Store for Recording {
        fn put(&self, object: Object, bytes: &[u8]) -> Result<()> {
            self.note("put", &format!("{object} {bytes:?}"));
            Ok(())
        }

        fn barrier(&self, names: Names) -> Result<()> {
            self.note("barrier", &format!("{names:?}"));
            Ok(())
        }

        fn len_bytes(&self, object: Object) -> Result<u64> {
            self.note("len_bytes", &object.path());
            Ok(1)
        }

        fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], wait: Wait) -> Result<()> {
            self.note("read_at", &format!("{object} {offset} {} {wait:?}", buffer.len()));
            buffer.fill(2);
            Ok(())
        }

        fn read_through(&self, object: Object, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
            self.note("read_through", &format!("{object} {range:?}"));
            each(3, &[3]);
            Ok(())
        }

        fn read_whole(&self, object: Object, max_bytes: u64) -> Result<Vec<u8>> {
            self.note("read_whole", &format!("{object} {max_bytes}"));
            Ok(vec![4])
        }

        fn list(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
            self.note("list", kind.folder());
            Ok(vec![ListedObject { id: ObjectId([5; 32]), len_bytes: 5 }])
        }

        fn delete(&self, object: Object) -> Result<()> {
            self.note("delete", &object.path());
            Ok(())
        }

        fn sweep(&self) -> Result<u64> {
            self.note("sweep", "");
            Ok(6)
        }

        fn location(&self) -> String {
            self.note("location", "");
            "location".into()
        }

        fn address(&self) -> String {
            self.note("address", "");
            "address".into()
        }
    }

    #[deny(clippy::missing_trait_methods)]
    impl Hints for Recording {
        fn expect_len(&self, object: Object, len_bytes: u64) {
            self.note("expect_len", &format!("{object} {len_bytes}"));
        }

        fn want(&self, object: Object, range: Range<u64>) {
            self.note("want", &format!("{object} {range:?}"));
        }

        fn max_wanted_bytes(&self) -> u64 {
            self.note("max_wanted_bytes", "");
            7
        }

        fn absent_bytes(&self, object: Object, range: Range<u64>) -> u64 {
            self.note("absent_bytes", &format!("{object} {range:?}"));
            8
        }

        fn distrust(&self, object: Object, range: Range<u64>) -> bool {
            self.note("distrust", &format!("{object} {range:?}"));
            true
        }

        fn copied_since_secs(&self, object: Object) -> Option<u64> {
            self.note("copied_since_secs", &object.path());
            Some(9)
        }

        fn connections(&self) -> usize {
            self.note("connections", "");
            10
        }

        fn is_far(&self) -> bool {
            self.note("is_far", "");
            true
        }

        fn close_idle(&self) {
            self.note("close_idle", "");
        }

        fn room(&self) -> Option<Room> {
            self.note("room", "");
            Some(Room { total_bytes: 11, free_bytes: 11, available_bytes: 11, files: 11, free_files: 11 })
        }

        fn traffic(&self) -> Traffic {
            self.note("traffic", "");
            Traffic { gets: 12, ..Traffic::default() }
        }
    }

    /// Changes nothing.
    struct Bare<S>(S);

    impl<S: Store> Decorator for Bare<S> {
        fn inner(&self) -> &dyn Store {
            &self.0
        }
    }

    /// Asks a store everything; returns the answers.
    fn ask(store: &dyn Store) -> Vec<String> {
        let mut answers = Vec::new();
        let mut add = |answer: &dyn std::fmt::Debug| answers.push(format!("{answer:?}"));
        add(&store.put(OBJECT, b"p").unwrap());
        add(&store.barrier(Names::All).unwrap());
        add(&store.len_bytes(OBJECT).unwrap());
        let mut buffer = [0; 2];
        store.read_at(OBJECT, 21, &mut buffer, Wait::Never).unwrap();
        add(&buffer);
        let mut came = Vec::new();
        store.read_through(OBJECT, 22..23, &mut |at, bytes| came.push((at, bytes.to_vec()))).unwrap();
        add(&came);
        add(&store.read_whole(OBJECT, 24).unwrap());
        add(&store.list(ObjectKind::Mark).unwrap());
        add(&store.delete(OBJECT).unwrap());
        add(&store.sweep().unwrap());
        add(&store.location());
        add(&store.address());
        add(&store.expect_len(OBJECT, 25));
        add(&store.want(OBJECT, 26..27));
        add(&store.max_wanted_bytes());
        add(&store.absent_bytes(OBJECT, 28..29));
        add(&store.distrust(OBJECT, 30..31));
        add(&store.copied_since_secs(OBJECT));
        add(&store.connections());
        add(&store.is_far());
        add(&store.close_idle());
        add(&store.room());
        add(&store.traffic());
        answers
    }

    /// Returns the names of a trait's methods as its source has them.
    fn methods(source: &str, name: &str) -> BTreeSet<String> {
        let start = source.find(&format!("pub trait {name}")).unwrap();
        let body = source[start..].split("\n}").next().unwrap();
        let methods = body.lines().filter_map(|line| line.strip_prefix("    fn ")?.split('(').next());
        methods.map(str::to_owned).collect()
    }

    #[test]
    fn all_that_a_store_is_asked_and_told_reaches_through_bare_decorators() {
        let direct = Recording::default();
        let answers = ask(&direct);
        let asked = direct.0.into_inner();
        let around = Bare(Bare(Recording::default()));
        assert_eq!(ask(&around), answers);
        assert_eq!(around.0.0.0.into_inner(), asked);
        // A new method is asked here too.
        let names: BTreeSet<String> = asked.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        let obligations = methods(include_str!("mod.rs"), "Store");
        let hints = methods(include_str!("hints.rs"), "Hints");
        assert!(obligations.len() > 8 && hints.len() > 8, "{obligations:?} {hints:?}");
        assert_eq!(names, &obligations | &hints);
    }
}
