//! Between nodes: one stream per peer and purpose carries the calls of all groups ([`link`]), the other side
//! answers them ([`service`]); [`client`] is what openraft sees.

pub(crate) mod client;
pub(crate) mod link;
pub(crate) mod service;
pub(crate) mod snapshot;
pub(crate) mod wire;
