//! Who clients believe they are talking to: with `GODEBUG=http2debug=1` (or 2) in the environment, the target of every
//! HTTP/2 request goes to stderr in the words of Go's `net/http`, by which people find a proxy's mistake with etcd.
//! Never: prints other headers, which may carry tokens.

use std::{io::Write as _, sync::LazyLock};

use http::{Request, Version};

static WANTED: LazyLock<bool> = LazyLock::new(|| std::env::var("GODEBUG").is_ok_and(|text| wanted(&text)));

fn wanted(settings: &str) -> bool {
    settings.split(',').any(|setting| matches!(setting, "http2debug=1" | "http2debug=2"))
}

/// Writes the target of `request`, if that was asked for.
pub fn target<T>(request: &Request<T>) {
    if *WANTED && request.version() == Version::HTTP_2 {
        // There is nowhere left to report that a line was lost.
        let _ = std::io::stderr().write_all(lines(request).as_bytes());
    }
}

fn lines<T>(request: &Request<T>) -> String {
    let now = jiff::Timestamp::now().strftime("%Y/%m/%d %H:%M:%S");
    let (uri, method) = (request.uri(), request.method());
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    [(":method", method.as_str()), (":path", uri.path()), (":authority", authority)]
        .map(|(name, value)| format!("{now} http2: decoded hpack field header field {name:?} = {value:?}\n"))
        .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_found_among_others() {
        assert!(wanted("gctrace=1,http2debug=2") && wanted("http2debug=1"));
        assert!(!wanted("http2debug=0") && !wanted(""));
    }

    #[test]
    fn the_target_is_told_and_no_token() {
        let request = Request::get("http://localhost:2379/etcdserverpb.KV/Put").header("token", "secret");
        let text = lines(&request.body(()).unwrap());
        let authority = "http2: decoded hpack field header field \":authority\" = \"localhost:2379\"";
        assert!(text.lines().any(|line| line.ends_with(authority)), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}
