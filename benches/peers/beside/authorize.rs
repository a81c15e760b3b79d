//! The service that nginx asks by `auth_request`: does the token hold, and does Casbin let its role do this?

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use casbin::{CoreApi, DefaultModel, Enforcer, StringAdapter};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, jwk::JwkSet};
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::bare;

/// Serves until ended. `key_set` is a file of one ES256 key; tokens must be of `issuer`, for `audience`.
pub(crate) fn serve(listener: &TcpListener, workers: usize, key_set: &Path, issuer: &str, audience: &str) {
    let keys: JwkSet = serde_json::from_slice(&std::fs::read(key_set).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    let judge = Arc::new(Judge {
        key: DecodingKey::from_jwk(keys.keys.first().unwrap()).unwrap(),
        validation,
        enforcer: enforcer(),
    });
    bare::per_core(listener, workers, move |stream| answer(stream, Arc::clone(&judge)));
}

struct Judge {
    key: DecodingKey,
    validation: Validation,
    enforcer: Enforcer,
}

#[derive(Deserialize)]
struct Claims {
    role: String,
}

impl Judge {
    fn judge(&self, headers: &HeaderMap) -> StatusCode {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = text(header::AUTHORIZATION.as_str()).strip_prefix("Bearer ").unwrap_or_default();
        let Ok(proved) = decode::<Claims>(token, &self.key, &self.validation) else {
            return StatusCode::UNAUTHORIZED;
        };
        match self.enforcer.enforce((proved.claims.role, text("x-original-uri"), text("x-original-method"))) {
            Ok(true) => StatusCode::NO_CONTENT,
            _ => StatusCode::FORBIDDEN,
        }
    }
}

async fn answer(stream: TcpStream, judge: Arc<Judge>) {
    stream.set_nodelay(true).unwrap();
    let call = move |request: Request<Incoming>| {
        let status = judge.judge(request.headers());
        async move { Response::builder().status(status).body(Empty::<Bytes>::new()) }
    };
    // The caller may hang up at any time.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(call)).await;
}

fn enforcer() -> Enforcer {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let model = DefaultModel::from_str(MODEL).await.unwrap();
        Enforcer::new(model, StringAdapter::new(POLICY)).await.unwrap()
    })
}

const MODEL: &str = "
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && keyMatch(r.obj, p.obj) && r.act == p.act
";

/// As few rows as will do: casbin reads them all for each decision.
const POLICY: &str = "p, reader, /orders/*, GET\np, reader, /orders/*, POST\n";
