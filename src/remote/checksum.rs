//! How services write checksums.

/// Writes bytes in base 64.
pub(super) fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Parses an MD5 of hexadecimal digits or of base 64.
pub(super) fn parse_md5(text: &str) -> Option<[u8; 16]> {
    use base64::Engine;
    if text.len() == 32 {
        let digit = |at: usize| u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok();
        return (0..16).map(digit).collect::<Option<Vec<u8>>>()?.try_into().ok();
    }
    base64::engine::general_purpose::STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_md5_is_read_in_both_its_forms() {
        let md5: [u8; 16] = std::array::from_fn(|i| i as u8 * 17);
        assert_eq!(parse_md5(&crate::id::to_hex(&md5)), Some(md5));
        assert_eq!(parse_md5(&base64(&md5)), Some(md5));
        for other in ["", "0x8DA8BEB55D0EA35", "d41d8cd98f00b204e9800998ecf8427e-3", "zz1d8cd98f00b204e9800998ecf8427e"]
        {
            assert_eq!(parse_md5(other), None, "{other}");
        }
    }
}
