//! File names of databases.

/// The longest file name a database gets, without what the dump's format and the manifest add.
const MAX_NAME_BYTES: usize = 200;
/// What is kept of a longer one, before its hash.
const KEPT_BYTES: usize = 160;

/// Returns the file name of a database's dump: the database's name with what no file name may have percent-escaped, and
/// a suffix. Different databases get different names, and none gets `reserved`.
pub fn file_name(database: &str, suffix: &str, reserved: &str) -> Vec<u8> {
    let escaped = |byte: u8| format!("%{byte:02X}").into_bytes();
    let mut name = Vec::new();
    for (at, byte) in database.bytes().enumerate() {
        let is_reserved = at == 0 && (byte == b'.' || format!("{database}{suffix}") == reserved);
        if is_reserved || matches!(byte, b'/' | b'%' | 0x7F) || byte < 0x20 {
            name.extend(escaped(byte));
        } else {
            name.push(byte);
        }
    }
    if name.len() > MAX_NAME_BYTES {
        let hash = blake3::hash(&name).to_hex();
        name.truncate(KEPT_BYTES);
        while std::str::from_utf8(&name).is_err() {
            name.pop();
        }
        name.extend(format!("%-{}", &hash[..32]).into_bytes());
    }
    name.extend(suffix.bytes());
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_safe_and_never_collide() {
        let (long, longer) = ("ä".repeat(150), "ä".repeat(151));
        let slashes = "/".repeat(63);
        let databases =
            ["app", "a/b", "a%2Fb", "a%b", ".", "..", ".hidden", "%2Ehidden", "a\n", "globals", "%67lobals", "é", " a"];
        let mut seen = BTreeSet::from([b"globals.sql".to_vec()]);
        for database in databases.into_iter().chain([&*long, &*longer, &*slashes]) {
            let name = file_name(database, ".sql", "globals.sql");
            assert!(!name.contains(&b'/') && !name.contains(&0) && !name.starts_with(b"."), "{database}");
            assert!(name.len() + ".json".len() <= 255 && std::str::from_utf8(&name).is_ok(), "{database}");
            assert!(seen.insert(name), "{database}");
        }
        assert_eq!(file_name("app-é", ".dump", "globals.sql"), "app-é.dump".as_bytes());
        assert_eq!(file_name("globals", ".dump", "globals.sql"), b"globals.dump");
        assert_eq!(file_name("a/b", ".sql", "globals.sql"), b"a%2Fb.sql");
    }
}
