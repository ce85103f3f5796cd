//! Actions on namespaces.

use rookery_cluster::ids::NamespaceId;
use rookery_cluster::metadata::{CommandBody, Created, Namespace, State};

use super::{Caller, Service, misrouted};
use crate::api::action::Action;
use crate::api::error::ApiError;
use crate::api::reply::{NamespaceView, Reply};

impl Service {
    pub(super) async fn namespaces(&self, caller: Caller, action: Action) -> Result<Reply, ApiError> {
        match action {
            Action::CreateNamespace { name, description, account, preset } => {
                let id = NamespaceId(self.0.rng.u128());
                let command = |state: &State| {
                    let (account, max_brokers) = (caller.account(state, account)?, preset.max_brokers());
                    Ok(CommandBody::CreateNamespace { id, account, name, description, max_brokers })
                };
                let (index, created) = self.write(caller, command).await?;
                // A retry's outcome is that of the first try, whose id was another.
                let Some(Created::Namespace(id)) = created else { return Ok(Reply::Done) };
                let state = self.see(index).await?;
                let namespace = state.namespace(id);
                let namespace = namespace.ok_or_else(|| ApiError::not_found("the namespace was deleted meanwhile"))?;
                Ok(Reply::Namespace(view(namespace)))
            }
            Action::ListNamespaces { account } => {
                let state = self.read().await?;
                let mine = |n: &&std::sync::Arc<Namespace>| {
                    caller.scope.covers(n.account) && account.is_none_or(|asked| asked == n.account)
                };
                let mut list: Vec<_> = state.namespaces().filter(mine).map(|n| view(n)).collect();
                list.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(Reply::Namespaces(list))
            }
            Action::DescribeNamespace { namespace } => {
                Ok(Reply::Namespace(view(caller.namespace(self.read().await?.as_ref(), &namespace)?)))
            }
            Action::DeleteNamespace { namespace } => {
                let id = |state: &State| Ok::<_, ApiError>(caller.namespace(state, &namespace)?.id);
                self.write(caller, |state| Ok(CommandBody::DeleteNamespace { id: id(state)? })).await?;
                Ok(Reply::Done)
            }
            other => Err(misrouted(&other)),
        }
    }
}

fn view(namespace: &Namespace) -> NamespaceView {
    NamespaceView {
        id: namespace.id,
        name: namespace.name.to_string(),
        description: namespace.description.clone(),
        created_on: namespace.created_on,
        modified_on: namespace.modified_on,
    }
}
