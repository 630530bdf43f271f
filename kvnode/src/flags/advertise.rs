//! What a member advertises that was told nothing: this machine's address, where it listens on all of them (etcd:
//! `UpdateDefaultClusterFromName` in `server/embed/config.go`). Pure: it is given a way to find the address.

use std::net::Ipv4Addr;

use super::{
    check,
    config::Config,
    url::{Address, Url},
};

/// Replaces advertised URLs that are the defaults, given or not, where the first URL to listen on is one of `0.0.0.0`.
/// Returns the address if it was used.
///
/// # Errors
/// That of `find`, which is only asked where an address is needed. Everything stays as it was then.
pub fn this_machine<E>(
    config: &mut Config,
    find: impl FnOnce() -> Result<Ipv4Addr, E>,
) -> Result<Option<Ipv4Addr>, E> {
    let peers =
        port("initial-advertise-peer-urls", &config.initial_advertise_peer_urls, &config.listen_peer_urls);
    let clients = port("advertise-client-urls", &config.advertise_client_urls, &config.listen_client_urls);
    if peers.or(clients).is_none() {
        return Ok(None);
    }
    let host = find()?;
    if let Some(port) = peers {
        config.initial_advertise_peer_urls = vec![Url::plain(host, port)];
        if config.initial_cluster_text.is_empty() {
            config.initial_cluster = check::alone(config);
        }
    }
    if let Some(port) = clients {
        config.advertise_client_urls = vec![Url::plain(host, port)];
    }
    Ok(Some(host))
}

/// The port to advertise in place of a default that leads nobody else here.
fn port(flag: &str, advertised: &[Url], listened: &[Url]) -> Option<u16> {
    let default = super::find(flag)?.default;
    let [url] = advertised else { return None };
    match listened.first()?.address() {
        Address::Tcp { host, port } if host == "0.0.0.0" && url.as_str() == default => Some(*port),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{Command, parse};

    const HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 7);
    const PEER: &str = "http://localhost:2380";
    const CLIENT: &str = "http://localhost:2379";

    fn told(words: &str, file: &str) -> Config {
        match parse(words.split_whitespace().map(str::to_owned), [], |_| Ok(file.to_owned())) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{words}: {other:?}"),
        }
    }

    /// What is advertised to peers, to clients, and as the members of a new cluster.
    fn advertised(mut config: Config) -> [String; 3] {
        let used = this_machine(&mut config, || Ok::<_, ()>(HOST)).unwrap();
        let texts = |urls: &[Url]| urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",");
        let [peer, client] =
            [&config.initial_advertise_peer_urls, &config.advertise_client_urls].map(|urls| texts(urls));
        assert_eq!(used.is_some(), peer.contains("10.9.8.7") || client.contains("10.9.8.7"));
        let members: Vec<_> =
            config.initial_cluster.iter().map(|(name, urls)| format!("{name}={}", texts(urls))).collect();
        [peer, client, members.join(",")]
    }

    #[test]
    fn a_default_gives_way_to_the_address_of_a_machine_that_listens_on_all() {
        for (words, expected) in [
            ("--name=a", [PEER, CLIENT, "a=http://localhost:2380"]),
            (
                "--name=a --listen-peer-urls=http://0.0.0.0:3380",
                ["http://10.9.8.7:3380", CLIENT, "a=http://10.9.8.7:3380"],
            ),
            (
                "--name=a --listen-peer-urls=http://0.0.0.0:2380 --initial-cluster=a=http://10.0.0.1:2380",
                ["http://10.9.8.7:2380", CLIENT, "a=http://10.0.0.1:2380"],
            ),
            // One that was given is the default all the same, and its scheme stays.
            (
                "--auto-tls --listen-client-urls=https://0.0.0.0:3379 --advertise-client-urls=http://localhost:2379",
                [PEER, "http://10.9.8.7:3379", "default=http://localhost:2380"],
            ),
        ] {
            assert_eq!(advertised(told(words, "")), expected, "{words}");
        }
        let file =
            "name: a\nlisten-client-urls: http://0.0.0.0:3379\nlisten-peer-urls: http://0.0.0.0:3380\n";
        assert_eq!(
            advertised(told("--config-file=kv.yaml", file)),
            ["http://10.9.8.7:3380", "http://10.9.8.7:3379", "a=http://10.9.8.7:3380"]
        );
    }

    #[test]
    fn nothing_else_gives_way() {
        for words in [
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--listen-peer-urls=http://[::]:2380",
            // The first in order counts.
            "--listen-peer-urls=https://0.0.0.0:1,http://127.0.0.1:2380 --peer-auto-tls",
        ] {
            assert_eq!(advertised(told(words, ""))[0], PEER, "{words}");
        }
        for urls in ["http://localhost:1", "http://localhost:1,http://localhost:2379"] {
            let words = format!("--listen-client-urls=http://0.0.0.0:1 --advertise-client-urls={urls}");
            assert_eq!(advertised(told(&words, ""))[1], urls);
        }
    }

    #[test]
    fn the_default_stays_where_no_address_is_found() {
        let mut config = told("--listen-peer-urls=http://0.0.0.0:2380", "");
        let before = config.clone();
        assert_eq!(this_machine(&mut config, || Err("no route")), Err("no route"));
        assert_eq!(config, before);
    }
}
