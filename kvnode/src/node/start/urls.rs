//! Peer URLs that are written in two ways and lead to the same place. The only place in a start that resolves names.

use std::{collections::BTreeSet, io, net::SocketAddr};

use crate::flags::url::{Address, Security, Url};

/// Whether both lists say the same, whatever order they are in.
pub(super) fn are_the_same(some: &[String], others: &[String]) -> bool {
    let sorted = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort();
        urls
    };
    sorted(some) == sorted(others)
}

/// Whether both lists lead to the same places. Names are resolved only where the texts differ, as etcd does
/// (`pkg/netutil`); one that cannot be resolved leads nowhere.
pub(super) async fn lead_to_the_same(some: &[String], others: &[String]) -> bool {
    if are_the_same(some, others) {
        return true;
    }
    if some.len() != others.len() {
        return false;
    }
    let (some, others) = (places(some).await, places(others).await);
    some.is_some() && some == others
}

/// Where the URLs lead: of a host with several addresses to its first one, IPv4 before IPv6; or to a unix socket.
async fn places(urls: &[String]) -> Option<BTreeSet<(Security, String)>> {
    let mut places = BTreeSet::new();
    for url in urls {
        let url: Url = url.parse().ok()?;
        let address = addresses(&url).await.ok()?.pop_first();
        let place = address.map_or_else(|| url.authority().to_owned(), |address| address.to_string());
        places.insert((url.security(), place));
    }
    Some(places)
}

/// The addresses that a URL leads to; none for a unix socket.
pub(super) async fn addresses(url: &Url) -> io::Result<BTreeSet<SocketAddr>> {
    match url.address() {
        Address::Tcp { host, port } => lookup(host, *port).await,
        Address::Unix(_) => Ok(BTreeSet::new()),
    }
}

/// The addresses of a host, by the system's resolver, which is what dialling uses.
pub(super) async fn lookup(host: &str, port: u16) -> io::Result<BTreeSet<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn same(some: &[&str], others: &[&str]) -> bool {
        let owned = |urls: &[&str]| urls.iter().map(|&url| url.to_owned()).collect::<Vec<_>>();
        lead_to_the_same(&owned(some), &owned(others)).await
    }

    #[tokio::test]
    async fn texts_may_differ_where_places_do_not() {
        assert!(
            same(
                &["http://a.invalid:1", "http://b.invalid:1"],
                &["http://b.invalid:1", "http://a.invalid:1"]
            )
            .await
        );
        assert!(same(&["http://localhost:1"], &["http://127.0.0.1:1"]).await);
        assert!(!same(&["http://127.0.0.1:1"], &["http://127.0.0.1:2"]).await);
        assert!(!same(&["http://127.0.0.1:1"], &["https://127.0.0.1:1"]).await);
        assert!(!same(&["http://127.0.0.1:1"], &["http://127.0.0.1:1", "http://127.0.0.1:2"]).await);
        assert!(!same(&["http://a.invalid:1"], &["http://127.0.0.1:1"]).await);
    }
}
