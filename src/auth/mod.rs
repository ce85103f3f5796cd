//! Who may connect, and who may administer: the keyring, clients' JSON Web Tokens, API tokens. Driver, but everything
//! here is a function of the metadata view, a time and random bytes that the caller passes; nothing waits.
//!
//! A client's token is checked once in full by [`Verifier::verify`]; [`admits`] is the part that can change later
//! (revocation, deletion, expiry) and is asked again of live connections (P2).

mod admits;
mod cache;
mod duration;
mod expiration;
mod genuine;
mod issue;
mod jwt;
mod keys;
mod provider;
mod sealing;
mod tokens;

pub use admits::{Denied, Reason, Verified, admits};
pub use duration::BadDuration;
pub use expiration::{Lifetime, effective_lifetime};
pub use issue::{Clients, Credential, IssueError, Order, issue};
pub use jwt::{MAX_TOKEN_BYTES, Rights, TopicAcl, Verifier};
pub use keys::{Jwk, JwkSet, SigningKey, generate_key, jwk_set, signing_key, thumbprint};
pub use sealing::{KeyFileError, Sealer, Unsealable};
pub use tokens::{NewApiToken, TokenDenied, check_api_token, new_api_token};

#[cfg(test)]
mod tests;
