//! A node from start to stop.

mod parts;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rookery_cluster::claims::{Board, Sessions};
use rookery_cluster::clock::{SharedClock, SystemClock};
use rookery_cluster::consensus::SharedConsensus;
use rookery_cluster::control::{GrpcControl, Handover, NodeMetadata, SharedControl, SharedMeta};
use rookery_cluster::forward::{Door, Forward, ForwardConfig};
use rookery_cluster::handle::SharedWorkerPort;
use rookery_cluster::ids::{GroupId, NodeLife, WorkerId};
use rookery_cluster::join::{NodeFiles, keep_renewed};
use rookery_cluster::leases::driver::{Lease, LeaseStatus};
use rookery_cluster::metadata::{self, Metadata, State};
use rookery_cluster::net::{SharedNet, SharedPeers, TlsPeerChannels, TokioNet};
use rookery_cluster::pki::CaHash;
use rookery_cluster::placement::driver::Placement;
use rookery_cluster::retained::store::Store;
use rookery_cluster::rng::{SharedRng, SystemRng};
use rookery_cluster::swim::{self, Keyring, Members, SwimConfig};
use rookery_raft::{GroupConfig, Groups, Settings};
use tokio::task::{JoinHandle, JoinSet};

use super::admin::{Admin, ApiPorts};
use super::authority::{Authority, renewal};
use super::client_tls::ClientCertificates;
use super::data_plane::DataPlane;
use super::health::{LifeStats, NodeHealth};
use super::peers::{PeerPort, Serving};
use super::removal::Removal;
use super::services::{NodeServices, Parts};
use super::stores::Stores;
use super::{NodeError, card, follow, found};
use crate::api::{Place, Service, Tools};
use crate::auth::Sealer;
use crate::broker::{Accountant, Mail, Mailbox, Worker, WorkerConfig};
use crate::config::Config;
use crate::listeners::reload::ReloadStats;
use crate::listeners::{Bounds, Listeners};
use crate::mqtt::codec::ReasonCode;

/// How long a node waits, at a stop, to end its own life in the metadata: others need not wait for its lease then.
const FAREWELL: Duration = Duration::from_secs(2);

/// Pause before a read of the metadata that failed is repeated: some failures come at once.
const READ_PAUSE: Duration = Duration::from_millis(100);

/// How a run ended.
enum End {
    /// As asked.
    Stopped,
    /// The cluster ended this node's life: it starts anew under another.
    LifeOver,
}

/// Serves until `stop` resolves. Runs on the control plane's runtime.
///
/// # Errors
/// Why the node cannot serve.
pub async fn serve(config: Config, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
    rookery_cluster::pki::install_crypto();
    tokio::pin!(stop);
    loop {
        let mut node = tokio::select! {
            () = &mut stop => return Ok(()),
            node = Box::pin(Node::start(&config)) => node?,
        };
        let removed = node.removal();
        let end = tokio::select! {
            () = &mut stop => Ok(End::Stopped),
            gone = removed.happened() => Err(gone),
            end = node.serve() => end,
        };
        // Also after an error: what was started must not be dropped while it runs.
        node.stop(&end).await;
        if let End::Stopped = end? {
            return Ok(());
        }
        tracing::warn!("starting anew under another life");
    }
}

/// What runs as long as the process does, or until the node's life is over.
struct Node {
    config: Config,
    files: Arc<NodeFiles>,
    ca: CaHash,
    clock: SharedClock,
    rng: SharedRng,
    stores: Arc<Stores>,
    groups: Groups,
    metadata: Metadata,
    peers: Arc<TlsPeerChannels>,
    lease: Lease,
    sessions: Sessions,
    services: Arc<NodeServices>,
    authority: Arc<Authority>,
    door: Door,
    admin: Arc<Admin>,
    health: Arc<NodeHealth>,
    api: Option<ApiPorts>,
    port: Option<Serving>,
    data_plane: DataPlane,
    _placement: Placement,
    tasks: JoinSet<()>,
    serving: Option<Life>,
}

/// What serves clients under one life.
struct Life {
    workers: Vec<Worker>,
    forward: Forward,
    accountant: Arc<Accountant>,
    listeners: Listeners,
    reloads: Option<Arc<ReloadStats>>,
    members: Members,
    swim: JoinHandle<()>,
    _tasks: JoinSet<()>,
}

impl Node {
    async fn start(config: &Config) -> Result<Self, NodeError> {
        let data = &config.node.data_dir;
        let files = NodeFiles::load(data).map_err(NodeError::Files)?;
        let files = Arc::new(files.ok_or_else(|| NodeError::NoMember(data.clone()))?);
        let (clock, rng): (SharedClock, SharedRng) = (Arc::new(SystemClock), Arc::new(SystemRng));
        let tls = files.tls(clock.clone())?;
        let data_plane = DataPlane::start().map_err(NodeError::Threads)?;
        let peers = TlsPeerChannels::new(Arc::new(TokioNet), tls.clone(), clock.clone(), data_plane.handle());
        for (node, address) in files.peers.iter().filter(|(node, _)| **node != files.node) {
            peers.set_address(*node, address.clone());
        }
        let stores = Arc::new(Stores::open(data, clock.clone(), rng.clone())?);
        let shared_peers: SharedPeers = peers.clone();
        let groups = Groups::start(Settings {
            node: files.node,
            peers: shared_peers.clone(),
            snapshots: stores.snapshots.clone(),
        });
        let (machine, views) = metadata::machine();
        groups.set_route(GroupId::METADATA, files.peers.keys().copied().collect());
        groups.add_group(GroupConfig::metadata(stores.metadata.clone(), Box::new(machine))).await?;
        let consensus: SharedConsensus = Arc::new(groups.clone());
        let metadata = Metadata::new(consensus.clone(), views, clock.clone(), rng.clone());
        let control: SharedControl = Arc::new(GrpcControl::new(shared_peers));
        let meta: SharedMeta = Arc::new(NodeMetadata::new(metadata.clone(), files.node, card::card(config)));
        let board = Board::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(follow::replicas(
            files.node,
            metadata.watch(),
            peers.clone(),
            groups.clone(),
            board.clone(),
            stores.clone(),
        ));
        found::complete(data, &files, &groups, &metadata).await?;
        let lease = Lease::start(files.node, clock.clone(), consensus.clone(), meta.clone(), control.clone());
        let sessions = Sessions::start(
            files.node,
            clock.clone(),
            consensus.clone(),
            meta.clone(),
            control.clone(),
            lease.clone(),
            board,
        );
        let mailboxes: Vec<Arc<Mailbox>> = (0..config.node.workers).map(|_| Arc::default()).collect();
        let services = NodeServices::new(Parts {
            lease: lease.clone(),
            metadata: metadata.clone(),
            sessions: sessions.clone(),
            handover: Handover::new(peers.clone()),
            meta: meta.clone(),
            calls: control.clone(),
            clock: clock.clone(),
            domain: config.node.domain.clone(),
            mailboxes,
            store: stores.retained.clone(),
            figures: parts::figures(config, files.node, &clock, &metadata, &stores.retained),
        });
        let authority = Arc::new(Authority {
            metadata: metadata.clone(),
            files: files.clone(),
            own_address: card::advertised(config),
            sealer: Sealer::new(files.secrets.key_encryption_key, &[]),
            clock: clock.clone(),
            rng: rng.clone(),
        });
        let door = Door::default();
        let port = PeerPort {
            listen: config.cluster.listen,
            tls: tls.clone(),
            groups: groups.clone(),
            metadata: metadata.clone(),
            lease: lease.clone(),
            sessions: sessions.clone(),
            meta: meta.clone(),
            applied: services.clone(),
            kept: services.clone(),
            authority: authority.clone(),
            door: door.clone(),
            data: data_plane.handle(),
        };
        let port = port.open().await.map_err(|error| NodeError::Port {
            what: "cluster.listen",
            at: config.cluster.listen,
            error,
        })?;
        let admin = Arc::new(Admin {
            node: files.node,
            groups: groups.clone(),
            metadata: metadata.clone(),
            lease: lease.clone(),
            meta: meta.clone(),
            control: control.clone(),
            workers: services.clone(),
            members: RwLock::default(),
            serving: RwLock::default(),
        });
        let health = Arc::new(NodeHealth {
            admin: admin.clone(),
            lease: lease.clone(),
            sessions: sessions.clone(),
            verifier: services.verifier().clone(),
            life: RwLock::default(),
        });
        let tools = Tools {
            metadata: metadata.clone(),
            sealer: authority.sealer.clone(),
            clock: clock.clone(),
            rng: rng.clone(),
            everywhere: admin.clone(),
            cluster: admin.clone(),
            place: Place {
                domain: config.node.domain.clone(),
                mqtts_port: config.listeners.mqtts.first().map_or(8883, SocketAddr::port),
            },
        };
        let ca = tls.ca_hash();
        let api = ApiPorts::open(config, Service::new(tools), health.clone(), &tls, clock.clone()).await?;
        tasks.spawn(keep_renewed(
            tls,
            data.clone(),
            files.key_pem.clone(),
            renewal(authority.clone(), files.node, found::hosts(config)),
            clock.clone(),
        ));
        let placement = Placement::start(files.node, clock.clone(), consensus, metadata.clone());
        Ok(Self {
            config: config.clone(),
            files,
            ca,
            clock,
            rng,
            stores,
            groups,
            metadata,
            peers,
            lease,
            sessions,
            services,
            authority,
            door,
            admin,
            health,
            api: Some(api),
            port: Some(port),
            data_plane,
            _placement: placement,
            tasks,
            serving: None,
        })
    }

    /// Serves clients as soon as the node has a life and its lease, until that life is over.
    async fn serve(&mut self) -> Result<End, NodeError> {
        let mut status = self.lease.status();
        let begun = |status: &LeaseStatus| status.life.is_some() && status.held || status.superseded.is_some();
        let found = status.wait_for(begun).await.map(|status| *status).unwrap_or_default();
        self.check_alone(&found)?;
        let life = found.life;
        let Some(life) = life else { return Ok(End::LifeOver) };
        // R11 rests on this read: it knows every node whose lease was granted before this one's.
        let view = loop {
            match self.metadata.read().await {
                Ok(view) => break view,
                Err(error) => tracing::warn!(%error, "waiting for the metadata"),
            }
            tokio::time::sleep(READ_PAUSE).await;
        };
        let begun = self.begin(life, view).await?;
        *self.admin.members.write() = Some(begun.members.clone());
        *self.health.life.write() = Some(LifeStats {
            workers: begun.workers.iter().map(Worker::stats).collect(),
            forward: begun.forward.clone(),
            listeners: begun.listeners.counters(),
            reloads: begun.reloads.clone(),
            accountant: begun.accountant.clone(),
            retained: self.stores.retained.clone(),
        });
        self.serving = Some(begun);
        *self.admin.serving.write() = true;
        tracing::info!(%life, "serving");
        // The status is gone only with the lease's driver, and then nothing renews it.
        let over = status.wait_for(|status| status.life != Some(life)).await.map(|status| *status).unwrap_or_default();
        self.check_alone(&over)?;
        Ok(End::LifeOver)
    }

    /// A node that another process runs as well does not take turns with it.
    fn check_alone(&self, status: &LeaseStatus) -> Result<(), NodeError> {
        match status.superseded {
            Some(other) => Err(NodeError::Superseded { other, data: self.config.node.data_dir.clone() }),
            None => Ok(()),
        }
    }

    async fn begin(&self, life: NodeLife, view: Arc<State>) -> Result<Life, NodeError> {
        let mailboxes = self.services.mailboxes().to_vec();
        let ports: Vec<SharedWorkerPort> = mailboxes.iter().map(|m| m.clone() as SharedWorkerPort).collect();
        for (id, port) in ports.iter().enumerate() {
            self.sessions.attach(WorkerId(id as u16), port.clone());
        }
        let peers: SharedPeers = self.peers.clone();
        let control = tokio::runtime::Handle::current();
        let data = self.data_plane.handle();
        let forward = Forward::start_behind(
            ForwardConfig {
                own: life,
                workers: ports,
                peers,
                clock: self.clock.clone(),
                data,
                control: control.clone(),
                retained: Some(self.retained(&view)),
            },
            &self.door,
        );
        self.services.begin(life, forward.clone());
        let seed = self.rng.u64();
        let accountant = Arc::new(Accountant::new(self.config.limits.buffers));
        let workers = (0..mailboxes.len() as u16).map(|id| {
            Worker::start(WorkerConfig {
                id: WorkerId(id),
                life,
                services: self.services.clone(),
                mailboxes: mailboxes.clone(),
                clock: self.clock.clone(),
                seed,
                accountant: accountant.clone(),
                progress: self.lease.worker_progress(WorkerId(id)),
            })
        });
        let workers = workers.collect::<io::Result<Vec<_>>>().map_err(NodeError::Threads)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(follow::whereabouts(
            view.clone(),
            self.metadata.watch(),
            self.files.clone(),
            self.config.node.data_dir.clone(),
        ));
        tasks.spawn(follow::workers(
            self.files.node,
            view,
            self.metadata.watch(),
            forward.clone(),
            self.services.clone(),
            self.stores.retained.clone(),
        ));
        let (members, swim) = self.membership(life).await?;
        let certificates =
            ClientCertificates::load(&self.config, &self.metadata, &self.authority, &self.clock, &self.rng)?;
        let (tls, reloads) = (certificates.tls.clone(), certificates.stats());
        let bounds = Bounds::of(&self.config.limits);
        let listeners = Listeners::start(&self.config.listeners, bounds, Some(tls), mailboxes, &control)
            .map_err(NodeError::Listen)?;
        tasks.spawn(certificates.keep());
        Ok(Life { workers, forward, accountant, listeners, reloads, members, swim, _tasks: tasks })
    }

    async fn stop(mut self, end: &Result<End, NodeError>) {
        *self.admin.serving.write() = false;
        if let Some(api) = self.api.take() {
            api.close().await;
        }
        if let Some(life) = self.serving.take() {
            life.listeners.stop_accepting();
            let reason = match end {
                Ok(End::LifeOver) | Err(NodeError::Removed { .. } | NodeError::Superseded { .. }) => {
                    ReasonCode::USE_ANOTHER_SERVER
                }
                Ok(End::Stopped) | Err(_) => ReasonCode::SERVER_SHUTTING_DOWN,
            };
            for worker in &life.workers {
                worker.mailbox().post(Mail::Stop { reason });
            }
            let joined = tokio::task::spawn_blocking(move || life.workers.into_iter().for_each(Worker::join));
            let _ = joined.await;
            if !matches!(end, Ok(End::LifeOver)) {
                let _ = tokio::time::timeout(FAREWELL, self.lease.end()).await;
            }
            let _ = tokio::time::timeout(FAREWELL, life.members.leave()).await;
            // Whatever became of the farewell: the next life binds the same port.
            life.swim.abort();
            let _ = life.swim.await;
            life.forward.stop();
        }
        self.lease.stop();
        self.sessions.stop();
        self.tasks.shutdown().await;
        if let Some(port) = self.port.take() {
            port.close().await;
        }
        self.groups.shutdown().await;
        self.stores.close();
    }
}
