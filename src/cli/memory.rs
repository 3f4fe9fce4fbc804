//! Memory of the commands whose need must not grow with the repository.

/// Makes the allocator give back what it does not need; called before there are threads. Measured after reading
/// 55 000 files through a mount: 45 MiB are held instead of 90.
#[cfg(target_env = "gnu")]
pub fn spare() {
    const THRESHOLD_BYTES: libc::c_int = 128 << 10;
    // SAFETY: mallopt(3) takes numbers only, and no other thread allocates yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD_BYTES);
    }
}

#[cfg(not(target_env = "gnu"))]
pub fn spare() {}
