//! TLS towards clients: the configured certificate, else one signed on demand by the cluster's authority for each
//! broker's name; and the watch over the configured one.

use std::sync::Arc;

use rookery_cluster::clock::SharedClock;
use rookery_cluster::metadata::Metadata;
use rookery_cluster::pki::{DynamicResolver, NameVerdict, PkiError};
use rookery_cluster::rng::SharedRng;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::authority::Authority;
use super::services::{NameOf, broker_of_name};
use super::{NodeError, found};
use crate::config::Config;
use crate::listeners::reload::{LOOK_EVERY, Pem, Reload, ReloadStats};
use crate::listeners::tls::ClientTls;

/// What clients are shown, and what keeps it up to date.
pub struct ClientCertificates {
    pub tls: Arc<ClientTls>,
    resolver: Arc<DynamicResolver>,
    clock: SharedClock,
    reload: Option<Reload>,
}

impl ClientCertificates {
    /// Reads the configured files, where there are any.
    ///
    /// # Errors
    /// They cannot be read, or are no certificate and its key.
    pub fn load(
        config: &Config,
        metadata: &Metadata,
        authority: &Authority,
        clock: &SharedClock,
        rng: &SharedRng,
    ) -> Result<Self, NodeError> {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        names.extend(found::hosts(config));
        let mut resolver = DynamicResolver::new(judge(metadata.clone(), config.node.domain.clone()), names);
        let mut reload = None;
        if let Some(given) = &config.listeners.tls {
            let (begun, pem) = Reload::begin(Arc::new(given.clone())).map_err(NodeError::Files)?;
            resolver = resolver.with_files(&pem.cert, &pem.key)?;
            reload = Some(begun);
        }
        match authority.ca(&metadata.view()) {
            Ok(ca) => resolver = resolver.with_signer(Arc::new(ca), clock.clone(), rng.clone())?,
            Err(why) => tracing::warn!(why, "no certificates for brokers' names are made here"),
        }
        let resolver = Arc::new(resolver);
        let tls = ClientTls::new(resolver.clone(), clock.clone())?;
        Ok(Self { tls, resolver, clock: clock.clone(), reload })
    }

    /// What becomes of changed files.
    pub fn stats(&self) -> Option<Arc<ReloadStats>> {
        self.reload.as_ref().map(Reload::stats)
    }

    /// Takes changed files into use, as long as it is polled; at once on SIGHUP, which ends no process that has files to
    /// look at.
    pub async fn keep(self) {
        let Self { tls, resolver, clock, reload } = self;
        let Some(reload) = reload else { return };
        let take = |pem: &Pem| -> Result<(), PkiError> {
            resolver.replace_files(&pem.cert, &pem.key, clock.wall())?;
            tls.renew()
        };
        let asked = Arc::new(Notify::new());
        tokio::join!(reload.run(LOOK_EVERY, asked.clone(), take), hang_ups(&asked));
    }
}

async fn hang_ups(asked: &Notify) {
    match signal(SignalKind::hangup()) {
        Ok(mut signals) => {
            while signals.recv().await.is_some() {
                asked.notify_one();
            }
        }
        Err(error) => tracing::warn!(%error, "sighup is not heard; changed certificates are found all the same"),
    }
}

fn judge(metadata: Metadata, domain: String) -> Box<dyn Fn(&str) -> NameVerdict + Send + Sync> {
    Box::new(move |name| match broker_of_name(&metadata.view(), name, &domain) {
        NameOf::Broker(_) => NameVerdict::Issue,
        NameOf::Nobody => NameVerdict::Refuse,
        NameOf::Other => NameVerdict::Default,
    })
}
