//! Discovery by DNS: the members of a new cluster are the SRV records of a domain (`--discovery-srv`).
//!
//! Follows etcd's `client/pkg/srv`: `_etcd-server-ssl._tcp` names members that speak TLS, `_etcd-server._tcp` those that
//! do not. The record that leads to this member's advertised URL gets its name; the others are numbered, since a member
//! tells its name itself once it runs. A member that finds data on its disk never asks.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
};

use domain::{
    base::{Name, Rtype, iana::Rcode, wire::ParseError},
    rdata::Srv,
    resolv::{StubResolver, resolver::SearchNames, stub::Answer},
};
use thiserror::Error;
use tracing::info;

use super::{Boot, fresh, urls};
use crate::flags::{config::Config, url::Url};

/// Services in the order in which they are asked for, and how their members are reached.
const SERVICES: [(&str, &str); 2] = [("etcd-server-ssl", "https"), ("etcd-server", "http")];

/// Why DNS made no member of this one. The first words are etcd's.
#[derive(Debug, Error)]
pub enum SrvError {
    #[error("{why}; check the records of {domain}, the domain of --discovery-srv")]
    Nothing { domain: String, why: String },
    #[error(
        "cannot find local etcd member {name:?} in SRV records of {domain}: one of them has to lead to {advertised}, as \
         --initial-advertise-peer-urls says"
    )]
    NotListed { name: String, domain: String, advertised: String },
    #[error(
        "{target}, which an SRV record names as a member, cannot be resolved: {source}; add its address, or remove the record"
    )]
    Unresolved { target: String, source: io::Error },
}

/// An SRV record, and where it leads.
#[derive(Clone)]
struct Record {
    /// Without the dot at its end, which URLs do not have.
    target: String,
    port: u16,
    addresses: BTreeSet<SocketAddr>,
}

/// What this member is found by.
struct Own<'a> {
    name: &'a str,
    places: Vec<(&'a Url, BTreeSet<SocketAddr>)>,
}

/// The members of the cluster by name, as DNS knows them now.
pub(super) async fn members(config: &Config, boot: &Boot) -> Result<BTreeMap<String, Vec<Url>>, SrvError> {
    boot.wait_for(format!("the SRV records of {} have to be found", config.discovery_srv.domain));
    listed(config, &StubResolver::default()).await
}

/// The members that this resolver finds.
async fn listed(config: &Config, resolver: &StubResolver) -> Result<BTreeMap<String, Vec<Url>>, SrvError> {
    let settings = &config.discovery_srv;
    let domain = &settings.domain;
    let own = own(config).await.map_err(|why| SrvError::Nothing { domain: domain.clone(), why })?;
    let mut members = BTreeMap::<String, Vec<Url>>::new();
    let mut failures = Vec::new();
    for (service, scheme) in SERVICES {
        let service = match settings.name.as_str() {
            "" => service.to_owned(),
            name => format!("{service}-{name}"),
        };
        let found = match targets(resolver, &service, domain).await {
            Ok(targets) => named(&service, scheme, &located(targets).await?, &own),
            Err(why) => Err(why),
        };
        match found {
            Ok(found) => {
                for (name, url) in found {
                    info!(service, name, %url, "got bootstrap from DNS for etcd-server");
                    members.entry(name).or_default().push(url);
                }
            }
            Err(why) => failures.push(format!("error querying DNS SRV records for _{service} {why}")),
        }
    }
    if members.is_empty() {
        return Err(SrvError::Nothing { domain: domain.clone(), why: failures.join("; ") });
    }
    for why in failures {
        info!(domain, why, "this service is not in use");
    }
    if !members.contains_key(&config.name) {
        return Err(SrvError::NotListed {
            name: config.name.clone(),
            domain: domain.clone(),
            advertised: fresh::texts(&config.initial_advertise_peer_urls).join(","),
        });
    }
    for urls in members.values_mut() {
        urls.sort();
    }
    Ok(members)
}

async fn own(config: &Config) -> Result<Own<'_>, String> {
    let mut places = Vec::new();
    for url in &config.initial_advertise_peer_urls {
        let addresses = urls::addresses(url)
            .await
            .map_err(|error| format!("{url} of --initial-advertise-peer-urls cannot be resolved: {error}"))?;
        places.push((url, addresses));
    }
    Ok(Own { name: &config.name, places })
}

/// Where the records of a service point. A domain without a dot at its end may also be one of the system's search list.
async fn targets(resolver: &StubResolver, service: &str, domain: &str) -> Result<Vec<(String, u16)>, String> {
    let mut names = vec![domain.to_owned()];
    if !domain.ends_with('.') {
        names.extend(
            resolver
                .search_iter()
                .filter(|suffix| !suffix.is_root())
                .map(|suffix| format!("{domain}.{suffix}")),
        );
    }
    for name in names {
        let name = format!("_{service}._tcp.{name}");
        let parsed: Name<Vec<u8>> = name.parse().map_err(|error| format!("({name}): {error}"))?;
        let answer =
            resolver.query((parsed, Rtype::SRV)).await.map_err(|error| format!("({name}): {error}"))?;
        match answer.header().rcode() {
            Rcode::NOERROR | Rcode::NXDOMAIN => {}
            failure => return Err(format!("({name}): the name server says {failure}")),
        }
        let found = in_answer(&answer).map_err(|error| format!("({name}): {error}"))?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(format!("(there is no _{service}._tcp.{domain})"))
}

fn in_answer(answer: &Answer) -> Result<Vec<(String, u16)>, ParseError> {
    let records = answer.answer()?.limit_to_in::<Srv<_>>();
    records
        .map(|record| record.map(|record| (record.data().target().to_string(), record.data().port())))
        .collect()
}

/// All of the records, or none: a cluster that leaves one out is another cluster. (etcd leaves it out.)
async fn located(targets: Vec<(String, u16)>) -> Result<Vec<Record>, SrvError> {
    let mut records = Vec::new();
    for (target, port) in targets {
        match urls::lookup(&target, port).await {
            Ok(addresses) => records.push(Record { target, port, addresses }),
            Err(source) => return Err(SrvError::Unresolved { target, source }),
        }
    }
    Ok(records)
}

/// The members that the records of one service name.
fn named(
    service: &str,
    scheme: &str,
    records: &[Record],
    own: &Own<'_>,
) -> Result<Vec<(String, Url)>, String> {
    let mut members = Vec::new();
    let mut numbers = 0..;
    let mut mismatch = String::new();
    for Record { target, port, addresses } in records {
        let url: Url = format!("{scheme}://{target}:{port}").parse().map_err(|e| format!("{e}"))?;
        let matching = own.places.iter().find(|(_, place)| !place.is_disjoint(addresses));
        match matching {
            None => members.extend(numbers.next().map(|number: usize| (number.to_string(), url))),
            Some((expected, _)) if expected.security() == url.security() => {
                members.push((own.name.to_owned(), url));
            }
            Some((expected, _)) => {
                mismatch = format!(
                    "bootstrap at {url} from DNS for {service} has scheme mismatch with expected peer {expected}"
                );
            }
        }
    }
    if members.is_empty() { Err(mismatch) } else { Ok(members) }
}

#[cfg(test)]
mod tests {
    use domain::{
        base::{Message, MessageBuilder, Ttl, iana::Class},
        resolv::stub::conf::{ResolvConf, ServerConf, Transport},
    };
    use tokio::net::UdpSocket;

    use super::*;

    fn record(target: &str, address: &str) -> Record {
        let address: SocketAddr = address.parse().unwrap();
        Record { target: target.to_owned(), port: address.port(), addresses: [address].into() }
    }

    fn names(scheme: &str, records: &[Record], advertised: &str) -> Result<Vec<String>, String> {
        let url: Url = advertised.parse().unwrap();
        let address = url.authority().parse().unwrap();
        let own = Own { name: "me", places: vec![(&url, [address].into())] };
        let named = named("etcd-server", scheme, records, &own)?;
        Ok(named.into_iter().map(|(name, url)| format!("{name}={url}")).collect())
    }

    #[test]
    fn own_record_has_the_name_and_others_are_numbered() {
        let records = [
            record("b.example.com", "10.0.0.2:2380"),
            record("a.example.com", "10.0.0.1:2380"),
            record("c.example.com", "10.0.0.3:2380"),
        ];
        let expected =
            ["0=http://b.example.com:2380", "me=http://a.example.com:2380", "1=http://c.example.com:2380"];
        assert_eq!(names("http", &records, "http://10.0.0.1:2380").unwrap(), expected);
    }

    #[test]
    fn a_record_of_the_other_scheme_is_not_this_member() {
        let records = [record("a.example.com", "10.0.0.1:2380")];
        assert_eq!(
            names("https", &records, "http://10.0.0.1:2380").unwrap_err(),
            "bootstrap at https://a.example.com:2380 from DNS for etcd-server has scheme mismatch with expected peer \
             http://10.0.0.1:2380"
        );
        let others = [records[0].clone(), record("b.example.com", "10.0.0.2:2380")];
        assert_eq!(
            names("https", &others, "http://10.0.0.1:2380").unwrap(),
            ["0=https://b.example.com:2380"]
        );
    }

    #[test]
    fn the_port_counts() {
        let records = [record("a.example.com", "10.0.0.1:2381"), record("a.example.com", "10.0.0.1:2380")];
        assert_eq!(
            names("http", &records, "http://10.0.0.1:2380").unwrap(),
            ["0=http://a.example.com:2381", "me=http://a.example.com:2380"]
        );
    }

    /// A DNS server that knows two members under one service; returns a resolver that asks it.
    async fn resolver(service: &'static str) -> StubResolver {
        resolver_of(service, "localhost.").await
    }

    /// The same, and the members are at `host`.
    async fn resolver_of(service: &'static str, host: &'static str) -> StubResolver {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = ServerConf::new(socket.local_addr().unwrap(), Transport::UdpTcp);
        tokio::spawn(async move {
            let known: Name<Vec<u8>> = format!("{service}._tcp.example.com").parse().unwrap();
            let target: Name<Vec<u8>> = host.parse().unwrap();
            let mut packet = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let question = Message::from_octets(&packet[..length]).unwrap();
                let knows = question.sole_question().unwrap().qname() == &known;
                let rcode = if knows { Rcode::NOERROR } else { Rcode::NXDOMAIN };
                let mut answer = MessageBuilder::new_vec().start_answer(&question, rcode).unwrap();
                for port in [2380, 2381].into_iter().filter(|_| knows) {
                    let srv = Srv::new(0, 0, port, &target);
                    answer.push((&known, Class::IN, Ttl::from_secs(60), srv)).unwrap();
                }
                socket.send_to(&answer.finish(), from).await.unwrap();
            }
        });
        let mut system = ResolvConf { servers: vec![server], ..ResolvConf::new() };
        system.options.search.push("com".parse().unwrap());
        StubResolver::from_conf(system)
    }

    fn config(advertised: &str) -> Config {
        let mut config = Config::default();
        config.name = "me".to_owned();
        config.initial_advertise_peer_urls = vec![advertised.parse().unwrap()];
        config.discovery_srv.domain = "example.com".to_owned();
        config
    }

    #[tokio::test]
    async fn members_are_what_the_domain_lists() {
        let mut config = config("http://127.0.0.1:2381");
        let members = listed(&config, &resolver("_etcd-server").await).await.unwrap();
        let expected = [("0", "http://localhost:2380"), ("me", "http://localhost:2381")];
        let expected = expected.map(|(name, url)| (name.to_owned(), vec![url.parse().unwrap()]));
        assert_eq!(members, BTreeMap::from(expected));

        config.discovery_srv.domain = "example".to_owned();
        assert_eq!(listed(&config, &resolver("_etcd-server").await).await.unwrap(), members);

        config.discovery_srv.name = "west".to_owned();
        let members = listed(&config, &resolver("_etcd-server-west").await).await.unwrap();
        assert_eq!(members.len(), 2);
    }

    #[tokio::test]
    async fn a_domain_that_does_not_lead_here_is_refused() {
        let refusal = async |advertised: &str, service: &'static str| {
            listed(&config(advertised), &resolver(service).await).await.unwrap_err().to_string()
        };
        let elsewhere = refusal("http://127.0.0.1:2382", "_etcd-server").await;
        assert!(elsewhere.starts_with("cannot find local etcd member \"me\" in SRV records"), "{elsewhere}");
        let nothing = refusal("http://127.0.0.1:2380", "_other").await;
        assert!(nothing.starts_with("error querying DNS SRV records for _etcd-server-ssl "), "{nothing}");
        assert!(nothing.contains("example.com"), "{nothing}");
    }

    #[tokio::test]
    async fn a_member_that_cannot_be_found_is_not_left_out() {
        let resolver = resolver_of("_etcd-server", "nobody.invalid.").await;
        let error = listed(&config("http://127.0.0.1:2380"), &resolver).await.unwrap_err().to_string();
        assert!(error.starts_with("nobody.invalid, which an SRV record names"), "{error}");
    }
}
