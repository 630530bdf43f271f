//! A case: how the servers are started and what is done to them, step by step. One line of text is one step, so that a
//! case can be read, shortened and kept in `cases/`.
//!
//! ```text
//! # What the case is about.
//! members 1
//! flag --max-txn-ops=5
//! 0 KV/Put key: "a" value: "b"            a call to member 0
//! 0 as root KV/Range key: "a"             with root's token
//! open w 0                                a watch stream to member 0
//! send w create_request { key: "a" }
//! progress w                              asks for progress until it is told, or clearly never will be
//! close w
//! begin c 0 Lock/Lock name: "l" lease: 7  a call that may have to wait for later steps
//! hear c                                  waits until both sides said the same, so far
//! end c                                   waits for its end; `close c` gives it up
//! restart 0 kill                          or `term`; `stop 0 kill` and `start 0` apart
//! expire 7                                waits until lease 7 is gone
//! audit                                   compares all that can be seen; every case ends with one
//! ```
//! Words with `$` are filled in when the step runs; see [`crate::bindings`].

use std::{fmt, str::FromStr};

use anyhow::{Context, Error, Result, bail};

/// Servers and steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    pub setup: Setup,
    pub steps: Vec<Step>,
}

/// How both clusters are started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    pub members: usize,
    /// For every member, beside names, ports and directories.
    pub flags: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { members: 1, flags: Vec::new() }
    }
}

/// One thing that is done to both clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Call(Call),
    Open { stream: String, member: usize, user: Option<String> },
    Send { stream: String, body: String },
    Progress { stream: String },
    Close { stream: String },
    Begin { name: String, call: Call },
    Hear { name: String },
    End { name: String },
    Restart { member: usize, how: End },
    Stop { member: usize, how: End },
    Start { member: usize },
    Expire { lease: i64 },
    Audit,
}

/// A request with one answer, or with a stream of answers that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub member: usize,
    /// Whose token is sent; none if that user never logged in.
    pub user: Option<String>,
    /// `Service/Method`.
    pub method: String,
    /// The request in protobuf's text format.
    pub body: String,
}

/// How a process is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As by a power cut.
    Kill,
    Term,
}

impl Step {
    /// A call without a token.
    pub fn call(member: usize, method: &str, body: impl Into<String>) -> Self {
        Self::Call(Call { member, user: None, method: method.to_owned(), body: body.into() })
    }

    /// This step by this user, where that makes a difference.
    pub fn by(mut self, name: Option<&str>) -> Self {
        if let Self::Call(Call { user, .. }) | Self::Open { user, .. } = &mut self {
            *user = name.map(str::to_owned);
        }
        self
    }
}

impl FromStr for Case {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut case = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                case.read_line(line).with_context(|| format!("line {}: {line}", number + 1))?;
            }
        }
        Ok(case)
    }
}

impl Case {
    fn read_line(&mut self, line: &str) -> Result<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "members" => self.setup.members = rest.parse()?,
            "flag" => self.setup.flags.push(rest.to_owned()),
            _ => self.steps.push(step(line)?),
        }
        Ok(())
    }
}

fn step(line: &str) -> Result<Step> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (first, others) = rest.split_once(' ').unwrap_or((rest, ""));
    Ok(match word {
        "open" => {
            let (member, user) =
                others.split_once(" as ").map_or((others, None), |(m, u)| (m, Some(u.to_owned())));
            Step::Open { stream: first.to_owned(), member: member.parse()?, user }
        }
        "send" => Step::Send { stream: first.to_owned(), body: others.to_owned() },
        "progress" => Step::Progress { stream: first.to_owned() },
        "close" => Step::Close { stream: first.to_owned() },
        "begin" => Step::Begin { name: first.to_owned(), call: call(others)? },
        "hear" => Step::Hear { name: first.to_owned() },
        "end" => Step::End { name: first.to_owned() },
        "restart" => Step::Restart { member: first.parse()?, how: others.parse()? },
        "stop" => Step::Stop { member: first.parse()?, how: others.parse()? },
        "start" => Step::Start { member: first.parse()? },
        "expire" => Step::Expire { lease: first.parse()? },
        "audit" => Step::Audit,
        _ => Step::Call(call(line)?),
    })
}

fn call(text: &str) -> Result<Call> {
    let (member, rest) = text.split_once(' ').unwrap_or((text, ""));
    let member = member.parse().context("neither a step nor the number of a member")?;
    let (user, call) = match rest.strip_prefix("as ").map(|rest| rest.split_once(' ')) {
        Some(Some((user, call))) => (Some(user.to_owned()), call),
        Some(None) => bail!("as whom is what called?"),
        None => (None, rest),
    };
    let (method, body) = call.split_once(' ').unwrap_or((call, ""));
    Ok(Call { member, user, method: method.to_owned(), body: body.to_owned() })
}

impl FromStr for End {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "kill" => Ok(Self::Kill),
            "term" => Ok(Self::Term),
            _ => bail!("{text:?} is neither kill nor term"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Term => "term",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "members {}", self.setup.members)?;
        self.setup.flags.iter().try_for_each(|flag| writeln!(f, "flag {flag}"))?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.member)?;
        self.user.iter().try_for_each(|user| write!(f, " as {user}"))?;
        write!(f, " {}", self.method)?;
        if self.body.is_empty() { Ok(()) } else { write!(f, " {}", self.body) }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(call) => write!(f, "{call}"),
            Self::Open { stream, member, user } => {
                write!(f, "open {stream} {member}")?;
                user.iter().try_for_each(|user| write!(f, " as {user}"))
            }
            Self::Send { stream, body } => write!(f, "send {stream} {body}"),
            Self::Progress { stream } => write!(f, "progress {stream}"),
            Self::Close { stream } => write!(f, "close {stream}"),
            Self::Begin { name, call } => write!(f, "begin {name} {call}"),
            Self::Hear { name } => write!(f, "hear {name}"),
            Self::End { name } => write!(f, "end {name}"),
            Self::Restart { member, how } => write!(f, "restart {member} {how}"),
            Self::Stop { member, how } => write!(f, "stop {member} {how}"),
            Self::Start { member } => write!(f, "start {member}"),
            Self::Expire { lease } => write!(f, "expire {lease}"),
            Self::Audit => f.write_str("audit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_written_as_it_was_read() {
        let text = "members 3\nflag --max-txn-ops=5\n0 KV/Put key: \"a b\"\n2 as root Auth/UserList\n\
                    open w 1 as alice\nopen v 0\nsend w create_request { key: \"a\" }\nprogress w\nclose w\n\
                    begin c 1 as bob Lock/Lock name: \"l\"\nhear c\nend c\nrestart 0 kill\nstop 1 term\nstart 1\nexpire 7\naudit\n";
        assert_eq!(text.parse::<Case>().unwrap().to_string(), text);
    }

    #[test]
    fn comments_say_nothing_and_nonsense_is_refused() {
        assert_eq!("# why\n\n".parse::<Case>().unwrap(), Case::default());
        for nonsense in ["put a b", "restart 0 gently", "0 as root"] {
            assert!(nonsense.parse::<Case>().is_err(), "{nonsense}");
        }
    }
}
