//! Counts of what the kernel asked for, so that tests and logs can speak of work, not only of results.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often the kernel has asked, since the mount began.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Requests {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Requests {
                Requests { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// LOOKUP.
    lookups,
    /// GETATTR.
    attrs,
    /// READDIR and READDIRPLUS.
    lists,
    /// READ.
    reads,
    /// OPEN and OPENDIR.
    opens,
    /// READLINK.
    links,
    /// GETXATTR and LISTXATTR.
    xattrs,
    /// LSEEK.
    seeks,
    /// Requests that did not find their answer in memory and went to an I/O thread.
    handed_over,
    /// Requests answered with EIO because their deadline passed.
    expired,
    /// Files whose pages were pushed into the kernel's cache.
    pushed_files,
    /// Bytes of those files.
    pushed_bytes,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}
