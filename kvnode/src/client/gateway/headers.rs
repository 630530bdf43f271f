//! HTTP headers as metadata of a call, the way grpc-gateway hands them on (`runtime/context.go`).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use tonic::Status;

/// Headers that every request may have by IANA's register: handed on with this prefix. Services take one of them as the
/// sign that a call came through the gateway.
const PERMANENT_PREFIX: &str = "grpcgateway-";

const PERMANENT: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-language",
    "accept-ranges",
    "authorization",
    "cache-control",
    "content-type",
    "cookie",
    "date",
    "expect",
    "from",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-schedule-tag-match",
    "if-unmodified-since",
    "max-forwards",
    "origin",
    "pragma",
    "referer",
    "user-agent",
    "via",
    "warning",
];

/// Headers with this prefix become metadata without it.
const METADATA_PREFIX: &str = "grpc-metadata-";

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_HOST: &str = "x-forwarded-host";

/// The headers of the call.
pub fn metadata(request: &Parts, remote: &str) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in &request.headers {
        let name = name.as_str();
        // The call's own; metadata must not speak in their place.
        let own = |name: &str| name.starts_with("grpc-") || name == "te" || name == "content-type";
        if let Some(bare) = name.strip_prefix(METADATA_PREFIX) {
            if !own(bare) {
                append(&mut metadata, bare, value);
            }
        } else if PERMANENT.contains(&name) {
            append(&mut metadata, &format!("{PERMANENT_PREFIX}{name}"), value);
        }
        if name == "authorization" {
            append(&mut metadata, name, value);
        }
    }
    forwarded(request, remote, &mut metadata);
    metadata.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata.insert(header::TE, HeaderValue::from_static("trailers"));
    metadata
}

fn append(metadata: &mut HeaderMap, name: &str, value: &HeaderValue) {
    // grpc-gateway leaves out what gRPC could not carry.
    let printable =
        name.ends_with("-bin") || value.as_bytes().iter().all(|byte| (0x20..=0x7e).contains(byte));
    if let (true, Ok(name)) = (printable, HeaderName::try_from(name)) {
        metadata.append(name, value.clone());
    }
}

/// For whom the gateway calls, and what it was called itself.
fn forwarded(request: &Parts, remote: &str, metadata: &mut HeaderMap) {
    let headers = &request.headers;
    let authority = request.uri.authority().and_then(|name| HeaderValue::from_str(name.as_str()).ok());
    let host = headers.get(FORWARDED_HOST).or_else(|| headers.get(header::HOST)).cloned().or(authority);
    if let Some(host) = host {
        append(metadata, FORWARDED_HOST, &host);
    }
    let mut path: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    path.extend(remote.rsplit_once(':').map(|(ip, _)| ip.trim_start_matches('[').trim_end_matches(']')));
    if let Ok(path) = HeaderValue::from_str(&path.join(", "))
        && !path.is_empty()
    {
        append(metadata, FORWARDED_FOR, &path);
    }
}

/// How long the caller wants to wait, by the header `Grpc-Timeout`; `None` is for ever.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    read_timeout(&text)
        .map(Some)
        .ok_or_else(|| Status::invalid_argument(format!("invalid grpc-timeout: {text}")))
}

fn read_timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn of(headers: &[(&str, &str)]) -> HeaderMap {
        let mut request = Request::builder().uri("/v3/kv/range");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        metadata(&request.body(()).unwrap().into_parts().0, "10.0.0.9:4711")
    }

    #[test]
    fn headers_become_metadata_as_grpc_gateway_makes_them() {
        let metadata = of(&[
            ("Accept", "*/*"),
            ("Authorization", "token"),
            ("Host", "node:2379"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("Grpc-Metadata-Hasleader", "true"),
            ("Grpc-Metadata-Grpc-Encoding", "gzip"),
            ("X-Other", "unseen"),
            ("Connection", "close"),
        ]);
        let mut found: Vec<String> =
            metadata.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        found.sort();
        assert_eq!(
            found,
            [
                "authorization: token",
                "content-type: application/grpc",
                "grpcgateway-accept: */*",
                "grpcgateway-authorization: token",
                "hasleader: true",
                "te: trailers",
                "x-forwarded-for: 1.2.3.4, 10.0.0.9",
                "x-forwarded-host: node:2379",
            ]
        );
    }

    #[test]
    fn timeouts_have_units() {
        for (text, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("20m", Some(Duration::from_millis(20))),
            ("1H", Some(Duration::from_secs(3600))),
            ("5", None),
            ("S", None),
            ("5s", None),
            ("", None),
        ] {
            assert_eq!(read_timeout(text), expected, "{text}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(timeout(&headers).unwrap(), None);
        headers.insert("grpc-timeout", HeaderValue::from_static("soon"));
        assert_eq!(timeout(&headers).unwrap_err().message(), "invalid grpc-timeout: soon");
    }
}
