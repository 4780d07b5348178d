//! Who logs in: fixed, changed by hand, or asked of a provider. Read at each connect, so that a password that is rotated
//! needs no new pool: change it, then [`Pool::evict`](crate::Pool::evict) what was opened with the old one.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

/// A user and a password. `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// Its password or token, if it needs one.
    pub password: Option<String>,
}

impl Login {
    /// With a password.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: Some(password.into()) }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "…");
        f.debug_struct("Login").field("user", &self.user).field("password", &password).finish()
    }
}

/// A login that can be changed while pools use it. Clones are the same cell.
///
/// ```
/// use weir_pool::managers::{Login, LoginCell};
///
/// let cell = LoginCell::new(Login::new("app", "first"));
/// // … build a pool with `manager.credentials(cell.clone())`, and later, when the password has been changed:
/// cell.set(Login::new("app", "second"));
/// // pool.evict();
/// # assert_eq!(cell.get().password.as_deref(), Some("second"));
/// ```
#[derive(Clone, Debug)]
pub struct LoginCell(Arc<RwLock<Login>>);

impl LoginCell {
    /// A cell with this login.
    pub fn new(login: Login) -> Self {
        Self(Arc::new(RwLock::new(login)))
    }

    /// What connects from now on log in with.
    pub fn set(&self, login: Login) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = login;
    }

    /// The login of the moment.
    pub fn get(&self) -> Login {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type BoxError = Box<dyn Error + Send + Sync>;
type Asked = Pin<Box<dyn Future<Output = Result<Login, BoxError>> + Send>>;

/// Where a manager learns at each connect who logs in.
#[derive(Clone)]
pub struct Credentials(Source);

#[derive(Clone)]
enum Source {
    Cell(LoginCell),
    Provider(Arc<dyn Fn() -> Asked + Send + Sync>),
}

impl Credentials {
    /// Asks `provider` at each connect, within the time of the connect: a vault, a file, a token service.
    pub fn provider<F, E>(provider: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Login, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self(Source::Provider(Arc::new(move || {
            let asked = provider();
            Box::pin(async move { asked.await.map_err(Into::into) })
        })))
    }

    /// The login of the moment. Cancel safe as far as the provider is.
    ///
    /// # Errors
    /// Those of the provider.
    pub async fn current(&self) -> Result<Login, CredentialsError> {
        match &self.0 {
            Source::Cell(cell) => Ok(cell.get()),
            Source::Provider(provider) => provider().await.map_err(CredentialsError),
        }
    }
}

impl From<LoginCell> for Credentials {
    fn from(cell: LoginCell) -> Self {
        Self(Source::Cell(cell))
    }
}

impl From<Login> for Credentials {
    fn from(login: Login) -> Self {
        LoginCell::new(login).into()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Cell(cell) => f.debug_tuple("Credentials").field(cell).finish(),
            Source::Provider(_) => f.write_str("Credentials(provider)"),
        }
    }
}

/// The provider of credentials has failed.
#[derive(Debug, thiserror::Error)]
#[error("no credentials: {0}")]
pub struct CredentialsError(#[source] BoxError);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cell_and_a_provider_are_asked_each_time() {
        let cell = LoginCell::new(Login::new("a", "1"));
        let credentials = Credentials::from(cell.clone());
        cell.set(Login::new("b", "2"));
        assert_eq!(credentials.current().await.unwrap(), Login::new("b", "2"));

        let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let credentials = Credentials::provider({
            let asked = Arc::clone(&asked);
            move || {
                let number = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                async move { if number == 0 { Err("sealed") } else { Ok(Login::new("c", number.to_string())) } }
            }
        });
        assert_eq!(credentials.current().await.unwrap_err().to_string(), "no credentials: sealed");
        assert_eq!(credentials.current().await.unwrap(), Login::new("c", "1"));
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown = format!("{:?}", Credentials::from(Login::new("app", "hunter2")));
        assert!(shown.contains("app") && !shown.contains("hunter2"), "{shown}");
    }
}
