//! Small reads made at the same time, where each waits for a network.

use crate::error::Result;
use crate::store::Store;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// So many small objects are read at a time, at most: 16 small answers are in memory.
pub const SMALL: usize = 16;

/// Does something with each item, `at_once` of them at a time and no more than the store has connections for, and
/// returns the outcomes in the order of the items. After a failure nothing more is begun.
///
/// With one connection all is done in order by the calling thread.
pub fn for_each<T: Sync, R: Send>(
    store: &dyn Store,
    at_once: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let threads = store.connections().clamp(1, at_once).min(items.len());
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let has_failed = AtomicBool::new(false);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let serve = || {
        while !has_failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return };
            let outcome = work(item);
            if outcome.is_err() {
                has_failed.store(true, Ordering::Relaxed);
            }
            done.lock().push((at, outcome));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without another thread this one does it all.
            let _ = std::thread::Builder::new().name("fetch".into()).spawn_scoped(scope, serve);
        }
        serve();
    });
    let mut done = done.into_inner();
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::id::ObjectId;
    use crate::store::{Hints, ListedObject, Names, Object, ObjectKind, Wait};
    use std::collections::HashSet;

    struct Wide(usize);

    impl Store for Wide {
        fn put(&self, _: Object, _: &[u8]) -> Result<()> {
            Ok(())
        }
        fn barrier(&self, _: Names) -> Result<()> {
            Ok(())
        }
        fn len_bytes(&self, _: Object) -> Result<u64> {
            Ok(0)
        }
        fn read_at(&self, _: Object, _: u64, _: &mut [u8], _: Wait) -> Result<()> {
            Ok(())
        }
        fn list(&self, _: ObjectKind) -> Result<Vec<ListedObject>> {
            Ok(vec![ListedObject { id: ObjectId([0; 32]), len_bytes: 0 }])
        }
        fn delete(&self, _: Object) -> Result<()> {
            Ok(())
        }
        fn location(&self) -> String {
            "nowhere".into()
        }
        fn sweep(&self) -> Result<u64> {
            Ok(0)
        }
    }

    impl Hints for Wide {
        fn connections(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn all_is_done_in_order_by_as_many_threads_as_there_are_connections() {
        let items: Vec<usize> = (0..100).collect();
        for connections in [0, 1, 4] {
            let threads = Mutex::new(HashSet::new());
            let barrier = std::sync::Barrier::new(connections.max(1));
            let done = for_each(&Wide(connections), SMALL, &items, |item| {
                if *item < connections {
                    barrier.wait();
                }
                threads.lock().insert(std::thread::current().id());
                Ok(item * 2)
            });
            assert_eq!(done.unwrap(), items.iter().map(|item| item * 2).collect::<Vec<_>>());
            assert_eq!(threads.into_inner().len(), connections.max(1));
            let begun = AtomicUsize::new(0);
            let failed = for_each(&Wide(connections), SMALL, &items, |item| {
                begun.fetch_add(1, Ordering::Relaxed);
                if *item == 3 { Err(Error::usage("three")) } else { Ok(()) }
            });
            assert_eq!(failed.unwrap_err().to_string(), "three");
            assert!(connections > 1 || begun.load(Ordering::Relaxed) == 4);
        }
    }
}
