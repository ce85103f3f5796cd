//! How long proposals are.

use crate::limits::MAX_COMMAND_BYTES;
use crate::sessions::Proposal;

/// Bytes of a proposal besides what [`bytes_of`] counts, at most.
pub(super) const PROPOSAL_OVERHEAD: usize = 256;
/// Bytes of one change of a subscription besides its filter, at most.
pub(super) const CHANGE_OVERHEAD: usize = 16;

const _: () = assert!(PROPOSAL_OVERHEAD < MAX_COMMAND_BYTES);

/// What of a proposal may be long.
pub(super) fn bytes_of(what: &Proposal) -> usize {
    match what {
        Proposal::Nothing => 0,
        Proposal::Claim { key, will, .. } => key.client.len() + will.as_ref().map_or(0, |will| will.message.len()),
        Proposal::Release { key, .. }
        | Proposal::Abandon { key, .. }
        | Proposal::WillPublished { key, .. }
        | Proposal::WillTimed { key, .. }
        | Proposal::Renew { key, .. } => key.client.len(),
        Proposal::Subscribe { key, changes, .. } => {
            key.client.len() + changes.iter().map(|(filter, _)| filter.len() + CHANGE_OVERHEAD).sum::<usize>()
        }
        Proposal::Recall { key, after, .. } => key.client.len() + after.as_ref().map_or(0, |after| after.len()),
    }
}
