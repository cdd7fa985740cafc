//! Paths and queries: percent decoding, and matching against the patterns of the route table.

/// Decodes `%XX`, and `+` in queries. `None` if the escapes are broken or the result is not UTF-8.
pub(super) fn decode(text: &str, plus_is_blank: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus_is_blank => out.push(b' '),
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

/// Matches a path against a pattern whose `{NAME}` segment, if it has one, stands for one segment.
///
/// Returns: `None` if it does not match; else what stands for `{NAME}`, empty if the pattern has none.
pub(super) fn matches(pattern: &str, path: &str) -> Option<String> {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    let mut name = String::new();
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return Some(name),
            (Some("{NAME}"), Some(segment)) if !segment.is_empty() => {
                name = decode(segment, false)?;
            }
            (Some(wanted), Some(segment)) if wanted == segment => {}
            _ => return None,
        }
    }
}

/// The value of a query's key; the first one if it is there several times.
pub(super) fn query(query: Option<&str>, key: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name, true)? == key).then(|| decode(value, true))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert_eq!(matches("/v1/status", "/v1/status"), Some(String::new()));
        assert_eq!(
            matches("/v1/spaces/{NAME}/scan", "/v1/spaces/my%20docs%2F1/scan"),
            Some("my docs/1".into())
        );
        assert_eq!(matches("/v1/spaces/{NAME}/scan", "/v1/spaces//scan"), None);
        assert_eq!(matches("/v1/spaces/{NAME}", "/v1/spaces/a/b"), None);
        assert_eq!(matches("/v1/spaces/{NAME}", "/v1/spaces/%f"), None);
    }

    #[test]
    fn queries() {
        assert_eq!(
            query(Some("path=a%2Fb+c&recursive"), "path"),
            Some("a/b c".into())
        );
        assert_eq!(
            query(Some("path=a&recursive"), "recursive"),
            Some(String::new())
        );
        assert_eq!(query(Some("path=%ff"), "path"), None);
        assert_eq!(query(None, "path"), None);
    }
}
