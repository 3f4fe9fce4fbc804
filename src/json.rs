//! How reports tell programs of names: as text, and as bytes where text does not tell all (docs/json.md).

use crate::spelling::readable;
use base64::Engine;
use serde::ser::SerializeMap;

/// Adds a name or path. Where that is no UTF-8, other bytes may read the same: the field `..._bytes` beside it has them in
/// base 64 then.
pub fn name<M: SerializeMap>(map: &mut M, field: &str, bytes: &[u8]) -> Result<(), M::Error> {
    map.serialize_entry(field, &text(bytes))?;
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(_) => map.serialize_entry(&format!("{field}_bytes"), &base64(bytes)),
    }
}

/// Adds a list of names or paths. Where one is no UTF-8, `..._bytes` has all of them in base 64.
pub fn names<M: SerializeMap, B: AsRef<[u8]>>(map: &mut M, field: &str, all: &[B]) -> Result<(), M::Error> {
    map.serialize_entry(field, &all.iter().map(|bytes| text(bytes.as_ref())).collect::<Vec<_>>())?;
    match all.iter().all(|bytes| std::str::from_utf8(bytes.as_ref()).is_ok()) {
        true => Ok(()),
        false => {
            let encoded: Vec<_> = all.iter().map(|bytes| base64(bytes.as_ref())).collect();
            map.serialize_entry(&format!("{field}_bytes"), &encoded)
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Bytes that are no UTF-8 become `\xNN`.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => readable(bytes),
    }
}

#[cfg(test)]
mod tests {
    use serde::ser::{Serialize, SerializeMap, Serializer};

    struct Names(Vec<&'static [u8]>);

    impl Serialize for Names {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            super::name(&mut map, "first", self.0[0])?;
            super::names(&mut map, "all", &self.0)?;
            map.end()
        }
    }

    #[test]
    fn names_that_are_no_text_have_their_bytes_beside_them() {
        let told = |names: &[&'static [u8]]| serde_json::to_string(&Names(names.to_vec())).unwrap();
        assert_eq!(told(&["ä\n".as_bytes()]), r#"{"first":"ä\n","all":["ä\n"]}"#);
        assert_eq!(
            told(&[b"a\xff", b"b"]),
            r#"{"first":"a\\xff","first_bytes":"Yf8=","all":["a\\xff","b"],"all_bytes":["Yf8=","Yg=="]}"#
        );
    }
}
