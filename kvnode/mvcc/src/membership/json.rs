//! Members as JSON: in the context of raft's membership changes and in the buckets `members` and `cluster`. Field names,
//! their order, what is left out and how characters are escaped are those of Go's encoder, since files are compared.

use serde::{Deserialize, Serialize};

use super::{Downgrade, Member};
use crate::ids::MemberId;

#[derive(Serialize, Deserialize)]
struct MemberJson {
    id: u64,
    // Go writes null for a list that was never set, and the promotion of a learner sets none.
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_false")]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Option::is_none")]
    client_urls: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
struct ContextJson {
    #[serde(flatten)]
    member: MemberJson,
    #[serde(rename = "isPromote", default)]
    is_promote: bool,
}

#[derive(Serialize, Deserialize)]
struct DowngradeJson {
    #[serde(rename = "target-version", default)]
    target_version: String,
    #[serde(default)]
    enabled: bool,
}

/// What the context of a membership change means to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeContext {
    /// Add this member.
    Add(Member),
    /// Make this learner a voter.
    Promote(MemberId),
}

/// A member as stored and as sent with an update.
#[must_use]
pub fn encode_member(member: &Member) -> Vec<u8> {
    go_json(&member_json(member))
}

/// Reads what [`encode_member`] or etcd wrote.
///
/// # Errors
/// The bytes are not such a JSON object.
pub fn decode_member(bytes: &[u8]) -> Result<Member, serde_json::Error> {
    serde_json::from_slice(bytes).map(member_of)
}

/// The context of the change that adds or promotes a member.
#[must_use]
pub fn encode_context(context: &ChangeContext) -> Vec<u8> {
    let (member, is_promote) = match context {
        ChangeContext::Add(member) => (member_json(member), false),
        ChangeContext::Promote(id) => {
            let mut member = member_json(&Member { id: *id, ..Member::default() });
            member.peer_urls = None;
            (member, true)
        }
    };
    go_json(&ContextJson { member, is_promote })
}

/// Reads what [`encode_context`] or etcd wrote. A plain member, as the first entries of a cluster carry it, means to add
/// it.
///
/// # Errors
/// The bytes are not such a JSON object.
pub fn decode_context(bytes: &[u8]) -> Result<ChangeContext, serde_json::Error> {
    let context: ContextJson = serde_json::from_slice(bytes)?;
    let member = member_of(context.member);
    Ok(if context.is_promote { ChangeContext::Promote(member.id) } else { ChangeContext::Add(member) })
}

pub(crate) fn encode_downgrade(downgrade: &Downgrade) -> Vec<u8> {
    let target_version = downgrade.target_version.clone().unwrap_or_default();
    go_json(&DowngradeJson { target_version, enabled: downgrade.target_version.is_some() })
}

pub(crate) fn decode_downgrade(bytes: &[u8]) -> Result<Downgrade, serde_json::Error> {
    let json: DowngradeJson = serde_json::from_slice(bytes)?;
    Ok(Downgrade { target_version: json.enabled.then_some(json.target_version) })
}

fn member_json(member: &Member) -> MemberJson {
    MemberJson {
        id: member.id.0,
        peer_urls: Some(member.peer_urls.clone()),
        is_learner: member.is_learner,
        name: member.name.clone(),
        client_urls: Some(member.client_urls.clone()).filter(|urls| !urls.is_empty()),
    }
}

fn member_of(json: MemberJson) -> Member {
    Member {
        id: MemberId(json.id),
        name: json.name,
        peer_urls: json.peer_urls.unwrap_or_default(),
        client_urls: json.client_urls.unwrap_or_default(),
        is_learner: json.is_learner,
    }
}

/// Go escapes what could end a script in a web page; such characters stand only inside strings.
pub(crate) fn go_json(value: &impl Serialize) -> Vec<u8> {
    let json = serde_json::to_string(value).expect("these types hold nothing that JSON cannot say");
    let escaped = json
        .replace('&', "\\u0026")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029");
    escaped.into_bytes()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_that_of_gos_encoder() {
        let member = Member {
            id: MemberId(u64::MAX),
            name: "a<b&c".into(),
            peer_urls: vec!["http://a:2380".into()],
            client_urls: vec!["http://a:2379".into()],
            is_learner: true,
        };
        let text = r#"{"id":18446744073709551615,"peerURLs":["http://a:2380"],"isLearner":true,"name":"a\u003cb\u0026c","clientURLs":["http://a:2379"]}"#;
        assert_eq!(String::from_utf8(encode_member(&member)).unwrap(), text);
        assert_eq!(decode_member(text.as_bytes()).unwrap(), member);

        let plain = Member { id: MemberId(1), peer_urls: vec!["http://a:1".into()], ..Member::default() };
        assert_eq!(encode_member(&plain), br#"{"id":1,"peerURLs":["http://a:1"]}"#);
        let add = ChangeContext::Add(plain);
        assert_eq!(encode_context(&add), br#"{"id":1,"peerURLs":["http://a:1"],"isPromote":false}"#);
        assert_eq!(decode_context(br#"{"id":1,"peerURLs":["http://a:1"]}"#).unwrap(), add);
        let promote = ChangeContext::Promote(MemberId(1));
        assert_eq!(encode_context(&promote), br#"{"id":1,"peerURLs":null,"isPromote":true}"#);
        assert_eq!(decode_context(&encode_context(&promote)).unwrap(), promote);
    }

    #[test]
    fn a_downgrade_comes_back() {
        let on = Downgrade { target_version: Some("3.6.0".into()) };
        assert_eq!(encode_downgrade(&on), br#"{"target-version":"3.6.0","enabled":true}"#);
        assert_eq!(decode_downgrade(&encode_downgrade(&on)).unwrap(), on);
        assert_eq!(encode_downgrade(&Downgrade::default()), br#"{"target-version":"","enabled":false}"#);
    }
}
