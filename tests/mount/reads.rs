//! Promise: every way to read gives the original bytes: random reads, maps, sendfile, direct I/O, seeks
//! and listings that are left and taken up again.

use bakfs_testing::cli::{Bakfs, Mounted};
use bakfs_testing::{Dice, noise};
use rustix::fs::{CWD, Dir, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Operations of one run over all files.
const OPERATIONS: usize = 12_000;

/// Files of every shape a read can meet, with their bytes.
fn plant(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut text = Vec::new();
    for line in 0..300_000_u64 {
        text.extend(format!("{line} lazy dog {}\n", line % 17).bytes());
    }
    let mut sparse = vec![0; 3 << 20];
    for (index, byte) in noise(3, 40_000).into_iter().enumerate() {
        sparse[(1 << 20) + index] = byte;
    }
    sparse[(2 << 20) + 5] = 7;
    let shapes = [
        ("random", noise(1, (6 << 20) + 77)),
        ("text", text),
        ("sparse", sparse),
        ("page", noise(2, 4096)),
        ("small", b"small".to_vec()),
        ("frame", noise(4, (256 << 10) + 1)),
    ];
    for (name, bytes) in &shapes {
        let file = File::create(dir.join(name)).unwrap();
        for (index, block) in bytes.chunks(4096).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                file.write_all_at(block, index as u64 * 4096).unwrap();
            }
        }
        file.set_len(bytes.len() as u64).unwrap();
    }
    shapes.map(|(name, bytes)| (dir.join(name), bytes)).into()
}

/// A mounted copy of the planted files.
fn with_mount(check: impl FnOnce(&Mounted<'_>, &[(PathBuf, Vec<u8>)])) {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    let files = plant(&source);
    bakfs.backup([&source]);
    let mount = bakfs.mount();
    check(&mount, &files);
}

fn range(dice: &mut Dice, len: usize) -> std::ops::Range<usize> {
    let start = dice.below(len as u64 + 10) as usize;
    let longest = [100, 5000, 300_000, 2_000_000][dice.below(4) as usize];
    start.min(len)..(start + dice.below(longest) as usize).min(len).max(start.min(len))
}

#[test]
fn random_reads_are_the_source() {
    with_mount(|mount, files| {
        let mut dice = Dice::new(1);
        let opened: Vec<File> = files.iter().map(|(path, _)| File::open(mount.at("latest", path)).unwrap()).collect();
        for _ in 0..OPERATIONS {
            let which = dice.below(files.len() as u64) as usize;
            let (file, bytes) = (&opened[which], &files[which].1);
            let range = range(&mut dice, bytes.len());
            let got = match dice.below(2) {
                0 => read_at(file, &range),
                _ => read_scattered(file, &range),
            };
            assert!(got == bytes[range.clone()], "{} {range:?}", files[which].0.display());
        }
    });
}

fn read_at(file: &File, range: &std::ops::Range<usize>) -> Vec<u8> {
    let mut buffer = vec![0xEE; range.len()];
    file.read_exact_at(&mut buffer, range.start as u64).unwrap();
    buffer
}

/// Reads with preadv(2) into three buffers.
fn read_scattered(file: &File, range: &std::ops::Range<usize>) -> Vec<u8> {
    let mut buffer = vec![0xEE; range.len()];
    let mut filled = 0;
    while filled < buffer.len() {
        let rest = &mut buffer[filled..];
        let third = rest.len() / 3;
        let (first, others) = rest.split_at_mut(third);
        let (second, last) = others.split_at_mut(third);
        let mut slices = [first, second, last].map(IoSliceMut::new);
        let offset = (range.start + filled) as u64;
        let len = rustix::io::preadv(file, &mut slices, offset).unwrap();
        assert!(len > 0, "the file ends early");
        filled += len;
    }
    buffer
}

#[test]
fn four_readers_at_once_read_the_source() {
    with_mount(|mount, files| {
        std::thread::scope(|scope| {
            for seed in 10..14 {
                scope.spawn(move || {
                    let mut dice = Dice::new(seed);
                    for _ in 0..OPERATIONS / 8 {
                        let (path, bytes) = &files[dice.below(files.len() as u64) as usize];
                        let file = File::open(mount.at("latest", path)).unwrap();
                        let range = range(&mut dice, bytes.len());
                        assert!(read_at(&file, &range) == bytes[range], "{}", path.display());
                    }
                });
            }
        });
    });
}

#[test]
fn maps_sendfile_and_direct_reads_are_the_source() {
    with_mount(|mount, files| {
        for (path, bytes) in files {
            let shown = mount.at("latest", path);
            let file = File::open(&shown).unwrap();
            // SAFETY: the mount's files never change, and the map is dropped before the unmount.
            let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
            assert!(map[..] == bytes[..], "mmap of {}", path.display());
            let program = unsafe {
                // SAFETY: as above; execute permission is asked for as a loader of programs does.
                memmap2::MmapOptions::new().map_exec(&file)
            };
            assert!(program.is_ok(), "mmap PROT_EXEC of {}", path.display());

            let copy = tempfile::tempfile().unwrap();
            let mut at = 0;
            while rustix::fs::sendfile(&copy, &file, Some(&mut at), 1 << 20).unwrap() > 0 {}
            assert!(whole(&copy) == *bytes, "sendfile of {}", path.display());

            let copy = tempfile::tempfile().unwrap();
            copy_range(&file, &copy, bytes.len());
            assert!(whole(&copy) == *bytes, "copy_file_range of {}", path.display());
            assert!(direct(&shown) == *bytes, "O_DIRECT of {}", path.display());
        }
    });
}

fn whole(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Copies with copy_file_range(2); where the kernel does not copy between the two, with sendfile(2).
fn copy_range(from: &File, to: &File, len: usize) {
    let (mut at, mut left) = (0, len);
    while left > 0 {
        match rustix::fs::copy_file_range(from, Some(&mut at), to, None, left) {
            Ok(copied) if copied > 0 => left -= copied,
            Err(Errno::XDEV | Errno::OPNOTSUPP) => {
                left -= rustix::fs::sendfile(to, from, Some(&mut at), left).unwrap();
            }
            other => panic!("copy_file_range at {at}: {other:?}"),
        }
    }
}

/// Reads a file past the page cache, into aligned memory.
fn direct(path: &Path) -> Vec<u8> {
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).unwrap());
    let mut aligned = memmap2::MmapMut::map_anon(64 << 10).unwrap();
    let mut bytes = Vec::new();
    loop {
        match file.read_at(&mut aligned, bytes.len() as u64).unwrap() {
            0 => return bytes,
            len => bytes.extend_from_slice(&aligned[..len]),
        }
    }
}

#[test]
fn seeks_to_data_and_holes_are_those_of_the_source() {
    with_mount(|mount, files| {
        let mut dice = Dice::new(3);
        for (path, bytes) in files {
            let open = |path: &Path| File::open(path).unwrap();
            let (there, here) = (open(path), open(&mount.at("latest", path)));
            let len = bytes.len() as u64;
            let edges = [0, 1, 4095, 4096, 1 << 20, 2 << 20, (2 << 20) + 5, len - 1, len, len + 1];
            let random: Vec<_> = (0..200).map(|_| dice.below(len + 10)).collect();
            for at in edges.into_iter().chain(random) {
                for seek in [SeekFrom::Data(at), SeekFrom::Hole(at)] {
                    let [expected, got] = [&there, &here].map(|file| rustix::fs::seek(file, seek));
                    assert_eq!(got, expected, "{} {seek:?}", path.display());
                }
            }
        }
    });
}

fn names(dir: &mut Dir, limit: usize) -> Vec<(Vec<u8>, i64)> {
    let mut all = Vec::new();
    while all.len() < limit {
        match dir.read() {
            Some(entry) => {
                let entry = entry.unwrap();
                all.push((entry.file_name().to_bytes().to_vec(), entry.offset()));
            }
            None => break,
        }
    }
    all
}

fn open_dir(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).unwrap()
}

#[test]
fn a_listing_goes_on_where_it_was_left() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    for index in 0..7000 {
        std::fs::write(source.join(format!("name-{index}-{}", "x".repeat(index % 90))), b"").unwrap();
    }
    bakfs.backup([&source]);
    let mount = bakfs.mount();
    let shown = mount.at("latest", &source);
    let mut dir = Dir::new(open_dir(&shown)).unwrap();
    let listed = names(&mut dir, usize::MAX);
    let unique: BTreeSet<_> = listed.iter().map(|(name, _)| name).collect();
    assert_eq!((listed.len(), unique.len()), (7002, 7002));

    let mut dice = Dice::new(4);
    for _ in 0..60 {
        let from = dice.below(listed.len() as u64 - 1) as usize;
        dir.seek(listed[from].1).unwrap();
        let rest = names(&mut dir, 50);
        let expected = &listed[from + 1..(from + 51).min(listed.len())];
        assert!(rest == expected, "after seekdir to entry {from}");
    }
    dir.rewind();
    assert!(names(&mut dir, usize::MAX) == listed, "after rewinddir");
    let second = names(&mut Dir::new(open_dir(&shown)).unwrap(), usize::MAX);
    assert!(second == listed, "in a second handle");
}

#[test]
fn a_program_runs_from_the_mount() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    std::fs::copy("/bin/true", source.join("true")).unwrap();
    std::fs::write(source.join("script"), "#!/bin/sh\necho from the mount\n").unwrap();
    let mut mode = std::fs::metadata(source.join("script")).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(source.join("script"), mode).unwrap();
    bakfs.backup([&source]);
    let mount = bakfs.mount();
    let shown = mount.at("latest", &source);
    let run = |name: &str| bakfs_testing::process::tool(shown.join(name).to_str().unwrap(), [""; 0]);
    run("true").expect(0);
    assert_eq!(run("script").expect(0).text(), "from the mount\n");
}
