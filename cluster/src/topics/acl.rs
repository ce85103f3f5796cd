//! What topics a client may publish to and subscribe to.

use super::cover::covers;
use super::grammar::{ParsedFilter, TopicError, matches, validate_filter};

/// Most filters of one kind of right: what a publish may have to be matched against.
pub const MAX_ACL_FILTERS: usize = 64;
/// Stands for the client ID in a filter of an ACL.
pub const CLIENT_ID_VARIABLE: &str = "${clientid}";
/// What every variable starts with; there is no other than [`CLIENT_ID_VARIABLE`].
const VARIABLE: &str = "${";
/// The server's own topics: nobody else publishes there, whatever an ACL says (MQTT 5 §4.7.2).
const SYSTEM: &str = "$SYS";

/// One client's rights. Filters cover `$`-topics only where they begin with `$` themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    publish: Rights,
    subscribe: Rights,
}

/// Where one kind of right holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rights {
    /// `#` is among the filters: the usual case, and the cheapest.
    all: bool,
    filters: Box<[Box<str>]>,
}

/// Why filters make no ACL. The fault of whoever wrote them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAcl {
    /// More than [`MAX_ACL_FILTERS`].
    #[error("an acl has at most {MAX_ACL_FILTERS} filters to publish to and as many to subscribe to")]
    TooMany,
    /// Not a topic filter.
    #[error("{0:?} in an acl is not a topic filter: {1}")]
    Filter(String, TopicError),
    /// `$share/...`: a right to a filter holds for shared subscriptions to it, too.
    #[error("{0:?} in an acl is a shared subscription; name the filter alone")]
    Shared(String),
    /// A variable that does not exist.
    #[error("{0:?} in an acl has another variable than {CLIENT_ID_VARIABLE}")]
    Variable(String),
    /// The client ID would be more than a part of one level, or a `$`-topic: it would grant what the filter's author
    /// did not mean.
    #[error("{0:?} in an acl does not go with a client id that contains /, + or #, or begins with $")]
    ClientId(String),
}

impl Acl {
    /// Both rights on all topics that do not begin with `$`: what `#` means.
    pub fn all() -> Self {
        let all = Rights { all: true, ..Rights::default() };
        Self { publish: all.clone(), subscribe: all }
    }

    /// The rights of `client` to publish and to subscribe where the filters say so.
    ///
    /// # Errors
    /// Names the filter that is none.
    pub fn new(publish: &[String], subscribe: &[String], client: &str) -> Result<Self, BadAcl> {
        Ok(Self { publish: Rights::new(publish, client)?, subscribe: Rights::new(subscribe, client)? })
    }

    /// Bytes of memory that its filters take, about.
    pub fn bytes(&self) -> usize {
        let of =
            |rights: &Rights| rights.filters.iter().map(|filter| size_of::<Box<str>>() + filter.len()).sum::<usize>();
        of(&self.publish) + of(&self.subscribe)
    }

    /// Whether the client may publish to this valid topic name. Allocates nothing.
    #[inline]
    pub fn may_publish(&self, topic: &str) -> bool {
        if topic.starts_with('$') {
            let system = topic.strip_prefix(SYSTEM).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            return !system && self.publish.filters.iter().any(|filter| matches(filter, topic));
        }
        self.publish.all || self.publish.filters.iter().any(|filter| matches(filter, topic))
    }

    /// Whether the client may subscribe to this filter: all that it matches must be covered by one filter of the ACL.
    pub fn may_subscribe(&self, filter: &ParsedFilter<'_>) -> bool {
        let all = self.subscribe.all && !filter.filter.starts_with('$');
        all || self.subscribe.filters.iter().any(|allowed| covers(allowed, filter))
    }
}

impl Rights {
    fn new(filters: &[String], client: &str) -> Result<Self, BadAcl> {
        if filters.len() > MAX_ACL_FILTERS {
            return Err(BadAcl::TooMany);
        }
        let all = filters.iter().any(|filter| filter == "#");
        let others = filters.iter().filter(|filter| *filter != "#");
        Ok(Self { all, filters: others.map(|filter| resolve(filter, client)).collect::<Result<_, _>>()? })
    }
}

fn resolve(template: &str, client: &str) -> Result<Box<str>, BadAcl> {
    check(template)?;
    if !template.contains(CLIENT_ID_VARIABLE) {
        return Ok(template.into());
    }
    let unfit = BadAcl::ClientId(template.to_owned());
    if client.contains(['/', '+', '#']) || client.starts_with('$') {
        return Err(unfit);
    }
    let filter = template.replace(CLIENT_ID_VARIABLE, client);
    match validate_filter(&filter) {
        Ok(ParsedFilter { share: None, .. }) => Ok(filter.into()),
        _ => Err(unfit),
    }
}

fn check(template: &str) -> Result<(), BadAcl> {
    let parsed = validate_filter(template).map_err(|why| BadAcl::Filter(template.to_owned(), why))?;
    if parsed.share.is_some() {
        return Err(BadAcl::Shared(template.to_owned()));
    }
    if template.replace(CLIENT_ID_VARIABLE, "").contains(VARIABLE) {
        return Err(BadAcl::Variable(template.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(publish: &[&str], subscribe: &[&str], client: &str) -> Result<Acl, BadAcl> {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        Acl::new(&owned(publish), &owned(subscribe), client)
    }

    fn may_subscribe(acl: &Acl, filter: &str) -> bool {
        acl.may_subscribe(&validate_filter(filter).unwrap())
    }

    #[test]
    fn rights_are_apart() {
        let acl = acl(&["up/${clientid}/#"], &["down/${clientid}/+", "all/#"], "dev-7").unwrap();
        assert!(acl.may_publish("up/dev-7/x/y") && acl.may_publish("up/dev-7"));
        assert!(!acl.may_publish("up/dev-70/x") && !acl.may_publish("down/dev-7/x"));
        assert!(may_subscribe(&acl, "down/dev-7/+") && may_subscribe(&acl, "$share/g/down/dev-7/x"));
        assert!(may_subscribe(&acl, "all/+/x"));
        assert!(!may_subscribe(&acl, "down/+/x") && !may_subscribe(&acl, "#") && !may_subscribe(&acl, "up/dev-7"));
    }

    #[test]
    fn nothing_listed_is_nothing_allowed() {
        let none = acl(&[], &[], "c").unwrap();
        assert!(!none.may_publish("a") && !may_subscribe(&none, "a"));
    }

    #[test]
    fn topics_of_the_server_must_be_named() {
        let all = Acl::all();
        assert!(all.may_publish("a") && may_subscribe(&all, "#") && may_subscribe(&all, "+/a"));
        assert!(!may_subscribe(&all, "$SYS/#") && !may_subscribe(&all, "$share/g/$SYS/#"));
        assert!(!all.may_publish("$SYS/x") && !all.may_publish("$other"));
        let named = acl(&["$SYS/#", "$other/#", "#"], &["#", "$SYS/broker/#"], "c").unwrap();
        assert!(may_subscribe(&named, "$SYS/broker/+") && !may_subscribe(&named, "$SYS/#"));
        assert!(named.may_publish("$other/x") && !named.may_publish("$SYS/x") && !named.may_publish("$SYS"));
        assert_eq!(acl(&["#"], &["#"], "c"), Ok(Acl::all()));
    }

    #[test]
    fn a_client_id_is_never_more_than_a_part_of_a_level() {
        for client in ["a/b", "+", "#", "x#", "$SYS"] {
            let refused = acl(&[], &["${clientid}/#"], client);
            assert_eq!(refused, Err(BadAcl::ClientId("${clientid}/#".into())), "{client}");
            assert!(acl(&[], &["x/#"], client).is_ok(), "{client}");
        }
        let within = acl(&["a/dev-${clientid}-x"], &[], "1").unwrap();
        assert!(within.may_publish("a/dev-1-x") && !within.may_publish("a/dev-2-x"));
    }

    #[test]
    fn what_is_no_acl_is_refused() {
        assert_eq!(acl(&["a#"], &[], "c"), Err(BadAcl::Filter("a#".into(), TopicError::MisplacedWildcard)));
        assert_eq!(acl(&[""], &[], "c"), Err(BadAcl::Filter(String::new(), TopicError::Empty)));
        assert_eq!(acl(&[], &["$share/g/a"], "c"), Err(BadAcl::Shared("$share/g/a".into())));
        assert_eq!(acl(&[], &["${username}/a"], "c"), Err(BadAcl::Variable("${username}/a".into())));
        assert_eq!(acl(&["a"; MAX_ACL_FILTERS + 1], &[], "c"), Err(BadAcl::TooMany));
        assert!(acl(&["a"; MAX_ACL_FILTERS], &[], "c").is_ok());
    }
}
