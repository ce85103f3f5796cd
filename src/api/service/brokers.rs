//! Actions on brokers and their credentials.

use rookery_cluster::ids::{BrokerId, NamespaceId};
use rookery_cluster::metadata::{
    Broker, BrokerLimits, BrokerPatch, BrokerSettings, CommandBody, Created, Name, Namespace, State,
};

use super::{Caller, Place, Service, broker_by_id, broker_gone, misrouted};
use crate::api::action::{Action, BrokerRef, Target};
use crate::api::error::ApiError;
use crate::api::limits::{Limits, texts};
use crate::api::reply::{BrokerView, Reply, RevocationView};
use crate::auth::{Lifetime, Order, generate_key, issue, jwk_set};

impl Service {
    pub(super) async fn brokers(&self, caller: Caller, action: Action) -> Result<Reply, ApiError> {
        match action {
            Action::CreateBroker { namespace, name, description, expiration, preset, limits } => {
                let (expiration, limits) = (seconds(expiration), BrokerLimits::of(preset).with(&limits)?);
                let settings = BrokerSettings { description, expiration, preset, limits, ..BrokerSettings::default() };
                self.create_broker(caller, &namespace, name, settings).await
            }
            Action::UpdateBroker { broker, description, expiration, preset, limits } => {
                let expiration = expiration.map(|e| seconds(Some(e)));
                let patch = BrokerPatch { description, expiration, preset, ..<_>::default() };
                self.update_broker(caller, &broker, patch, limits).await
            }
            Action::DeleteBroker { broker } => {
                let command = |state: &State| Ok(CommandBody::DeleteBroker { id: caller.broker(state, &broker)?.1.id });
                self.restrict(caller, command).await
            }
            Action::Revoke { broker, jtis } => {
                let id = |state: &State| Ok::<_, ApiError>(caller.broker(state, &broker)?.1.id);
                self.restrict(caller, |state| Ok(CommandBody::Revoke { broker: id(state)?, jtis })).await
            }
            Action::Unrevoke { broker, jtis } => {
                let id = |state: &State| Ok::<_, ApiError>(caller.broker(state, &broker)?.1.id);
                self.write(caller, |state| Ok(CommandBody::Unrevoke { broker: id(state)?, jtis })).await?;
                Ok(Reply::Done)
            }
            Action::Issue { broker, order } => self.issue(caller, &broker, order).await,
            reading => self.read_brokers(caller, reading).await,
        }
    }

    async fn read_brokers(&self, caller: Caller, action: Action) -> Result<Reply, ApiError> {
        let state = self.read().await?;
        match action {
            Action::ListBrokers { namespace } => {
                let namespace = caller.namespace(&state, &namespace)?;
                let view = |broker: &std::sync::Arc<Broker>| view(&self.0.place, namespace, broker);
                Ok(Reply::Brokers(state.brokers_of(namespace.id).map(view).collect()))
            }
            Action::DescribeBroker { broker } => {
                let (namespace, broker) = caller.broker(&state, &broker)?;
                Ok(Reply::Broker(view(&self.0.place, namespace, broker)))
            }
            Action::ShowRevocations { broker } => {
                let (_, broker) = caller.broker(&state, &broker)?;
                let revoked = state.revocations(broker.id);
                let views = revoked.map(|(jti, revoked_on)| RevocationView { jti: jti.to_string(), revoked_on });
                Ok(Reply::Revocations(views.collect()))
            }
            Action::PublicKeys { broker } => Ok(Reply::Keys(jwk_set(caller.broker(&state, &broker)?.1))),
            other => Err(misrouted(&other)),
        }
    }

    async fn create_broker(
        &self,
        caller: Caller,
        namespace: &Target<NamespaceId>,
        name: Name,
        settings: BrokerSettings,
    ) -> Result<Reply, ApiError> {
        let id = BrokerId(self.0.rng.u128());
        let key = || generate_key(&self.0.sealer, self.0.rng.as_ref());
        let keys = vec![key(), key()];
        let command = |state: &State| {
            let namespace = caller.namespace(state, namespace)?.id;
            Ok(CommandBody::CreateBroker { id, namespace, name, settings, keys })
        };
        let (index, created) = self.write(caller, command).await?;
        let Some(Created::Broker(id)) = created else { return Ok(Reply::Done) };
        Ok(Reply::Broker(self.view(self.see(index).await?.as_ref(), id)?))
    }

    async fn issue(&self, caller: Caller, broker: &BrokerRef, order: Order) -> Result<Reply, ApiError> {
        let state = self.read().await?;
        let id = caller.broker(&state, broker)?.1.id;
        let now = self.0.clock.wall();
        Ok(Reply::Issued(issue(&state, &self.0.sealer, id, order, now, self.0.rng.as_ref())?))
    }

    async fn update_broker(
        &self,
        caller: Caller,
        target: &BrokerRef,
        patch: BrokerPatch,
        limits: Limits,
    ) -> Result<Reply, ApiError> {
        let relimits = patch.preset.is_some() || !limits.is_empty();
        let restricts = patch.may_restrict() || relimits;
        let mut updated = None;
        let command = |state: &State| {
            let id = caller.broker(state, target)?.1.id;
            updated = Some(id);
            Ok(match relimits {
                true => CommandBody::ChangeBroker { id, patch, limits },
                false => CommandBody::UpdateBroker { id, patch },
            })
        };
        let (index, _) = self.write(caller, command).await?;
        if restricts {
            self.everywhere(index).await?;
        }
        let state = self.see(index).await?;
        let id = match updated {
            Some(id) => id,
            // A retry: the outcome of the first try does not name the broker.
            None => caller.broker(&state, target).map_err(|_| broker_gone())?.1.id,
        };
        Ok(Reply::Broker(self.view(&state, id)?))
    }

    fn view(&self, state: &State, id: BrokerId) -> Result<BrokerView, ApiError> {
        let (namespace, broker) = broker_by_id(state, id)?;
        Ok(view(&self.0.place, namespace, broker))
    }
}

fn view(place: &Place, namespace: &Namespace, broker: &Broker) -> BrokerView {
    BrokerView {
        id: broker.id,
        name: broker.name.to_string(),
        namespace: namespace.name.to_string(),
        description: broker.settings.description.clone(),
        created_on: broker.created_on,
        modified_on: broker.modified_on,
        expiration: broker.settings.expiration,
        preset: broker.settings.preset.name(),
        limits: texts(&broker.settings.limits),
        endpoint: format!("mqtts://{}.{}.{}:{}", broker.name, namespace.name, place.domain, place.mqtts_port),
    }
}

fn seconds(lifetime: Option<Lifetime>) -> Option<u64> {
    match lifetime {
        Some(Lifetime::Seconds(seconds)) => Some(seconds),
        Some(Lifetime::Never) | None => None,
    }
}
