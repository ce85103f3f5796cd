//! How a command fails: one line, and an exit code that scripts can tell apart.

use std::fmt;
use std::process::ExitCode;

/// The exit code of a node that has no place in its cluster any more. The systemd unit knows it.
const GONE: u8 = crate::node::GONE;

/// Why a command did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    /// What happened.
    what: String,
    /// What to do about it.
    hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// 1: the server refused, or something failed here.
    Refused,
    /// 2: wrong arguments or settings. (clap uses 2 for what it finds itself.)
    Usage,
    /// 3: no server answered, or it could not serve; nothing was done.
    Unreachable,
    /// 4: it may or may not have been done, or it is done, but perhaps not everywhere yet.
    Unknown,
    /// 5: this node has no place in its cluster, so that starting it again does not help.
    Gone,
}

impl Failure {
    /// Refused, or failed here: exit code 1.
    pub fn refused(what: impl fmt::Display) -> Self {
        Self { kind: Kind::Refused, what: what.to_string(), hint: None }
    }

    /// Wrong arguments or settings: exit code 2.
    pub fn usage(what: impl fmt::Display) -> Self {
        Self { kind: Kind::Usage, what: what.to_string(), hint: None }
    }

    /// No server that could serve, nothing done: exit code 3.
    pub fn unreachable(what: impl fmt::Display) -> Self {
        Self { kind: Kind::Unreachable, what: what.to_string(), hint: None }
    }

    /// Done or not, nobody knows, or done but perhaps not everywhere yet: exit code 4.
    pub fn unknown(what: impl fmt::Display) -> Self {
        Self { kind: Kind::Unknown, what: what.to_string(), hint: None }
    }

    /// This node has no place in its cluster any more: exit code `GONE`.
    pub fn gone(what: impl fmt::Display) -> Self {
        Self { kind: Kind::Gone, what: what.to_string(), hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Whether nothing was reached.
    pub(super) fn is_refused_connection(&self) -> bool {
        self.kind == Kind::Unreachable && self.what.starts_with("cannot connect")
    }

    /// The same, where an earlier try may have been carried out.
    pub(super) fn into_unknown(self) -> Self {
        let hint = "it may have been done: look before you do it again".to_owned();
        match self.kind {
            Kind::Unreachable | Kind::Unknown => Self { kind: Kind::Unknown, hint: Some(hint), ..self },
            Kind::Refused | Kind::Usage | Kind::Gone => self,
        }
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Refused => 1,
            Kind::Usage => 2,
            Kind::Unreachable => 3,
            Kind::Unknown => 4,
            Kind::Gone => GONE,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}
