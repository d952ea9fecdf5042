//! Entra: discovery, keys, the token endpoint, and what storage makes of forged tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sas_broker::simulator::{TokenSignature, TokenSpec, TokenVersion};
use serde_json::{Value, json};
use time::Duration;

use super::*;

impl World {
    async fn json(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.azure.authority());
        let text = self
            .http
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Posts a form to the tenant's token endpoint; status and JSON body.
    async fn token(&self, tenant: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let url = format!("{}{tenant}/oauth2/v2.0/token", self.azure.authority());
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        let request = self
            .http
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.extend_pairs(form).finish());
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (
            status,
            serde_json::from_str(&answer.text().await.unwrap()).unwrap(),
        )
    }

    /// The claims of a token that the password grant gives out.
    async fn sign_in(&self, user: &str, password: &str, scope: &str) -> Value {
        let client = PUBLIC_CLIENT.to_string();
        let form = [
            ("grant_type", "password"),
            ("client_id", client.as_str()),
            ("username", user),
            ("password", password),
            ("scope", scope),
        ];
        let (status, answer) = self.token(&TENANT.to_string(), &form).await;
        assert_eq!(status, 200, "{answer}");
        part(answer["access_token"].as_str().unwrap(), 1)
    }
}

/// A decoded part of a token: 0 the header, 1 the claims.
fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[actix_web::test]
async fn discovery_leads_to_the_key_sets_of_both_versions() {
    let world = World::start().await;
    let authority = world.azure.authority();
    for (version, issuer, key_issuer) in [
        (
            "",
            format!("https://sts.windows.net/{TENANT}/"),
            Value::Null,
        ),
        (
            "/v2.0",
            format!("{authority}{TENANT}/v2.0"),
            json!(format!("{authority}{TENANT}/v2.0")),
        ),
    ] {
        let metadata = world
            .json(&format!(
                "{TENANT}{version}/.well-known/openid-configuration"
            ))
            .await;
        assert_eq!(metadata["issuer"], json!(issuer));
        let jwks_uri = metadata["jwks_uri"].as_str().unwrap();
        let keys = world
            .json(jwks_uri.strip_prefix(authority.as_str()).unwrap())
            .await;
        let key = &keys["keys"][0];
        assert_eq!(key["kid"], json!(world.azure.signing_key_ids()[0]));
        assert_eq!(key["x5t"], key["kid"]);
        assert_eq!(key["issuer"], key_issuer);
        assert_eq!(key.get("alg"), None);
        assert_eq!(key["e"], "AQAB");
        assert_eq!(
            URL_SAFE_NO_PAD
                .decode(key["n"].as_str().unwrap())
                .unwrap()
                .len(),
            256
        );
    }
    let stranger = world
        .json("no-such-tenant/.well-known/openid-configuration")
        .await;
    assert_eq!(stranger["error_codes"], json!([90_002]));
}

#[actix_web::test]
async fn the_token_endpoint_refuses_with_the_codes_of_entra() {
    let world = World::start().await;
    let (tenant, client) = (TENANT.to_string(), BROKER_CLIENT.to_string());
    let public = PUBLIC_CLIENT.to_string();
    let credentials = |id: &'static str, secret: &'static str, scope: &'static str| {
        vec![
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_secret", secret),
            ("scope", scope),
        ]
    };
    let (client, public): (&'static str, &'static str) = (client.leak(), public.leak());
    let storage = "https://storage.azure.com/.default";
    let password = |user, secret, scope| {
        vec![
            ("grant_type", "password"),
            ("client_id", public),
            ("username", user),
            ("password", secret),
            ("scope", scope),
        ]
    };
    let cases = [
        (vec![], 400, 900_144),
        (vec![("grant_type", "device_code")], 400, 70_003),
        (vec![("grant_type", "client_credentials")], 400, 900_144),
        (credentials("not-a-client", "x", storage), 400, 700_016),
        (credentials(client, "wrong", storage), 401, 7_000_215),
        (credentials(public, "x", storage), 401, 7_000_218),
        (
            credentials(client, BROKER_SECRET, "https://storage.azure.com/read"),
            400,
            1_002_012,
        ),
        (
            credentials(client, BROKER_SECRET, "api://a/.default api://b/.default"),
            400,
            1_002_012,
        ),
        (
            credentials(client, BROKER_SECRET, "api://nobody/.default"),
            400,
            500_011,
        ),
        (
            password("ada@contoso.example", "wrong", storage),
            400,
            50_126,
        ),
        (
            password("nobody@contoso.example", ADA_PASSWORD, storage),
            400,
            50_126,
        ),
        (
            password("ada@contoso.example", ADA_PASSWORD, "api://sas-broker/no"),
            400,
            70_011,
        ),
        (
            password("ada@contoso.example", ADA_PASSWORD, "openid"),
            400,
            70_011,
        ),
    ];
    for (form, status, number) in cases {
        let (got, answer) = world.token(&tenant, &form).await;
        assert_eq!(
            (got, &answer["error_codes"]),
            (status, &json!([number])),
            "{form:?}"
        );
        let description = answer["error_description"].as_str().unwrap();
        assert!(
            description.starts_with(&format!("AADSTS{number}: ")),
            "{description}"
        );
        assert!(!description.contains("canary"), "no secret in an error");
    }
    let (status, answer) = world
        .token("common", &credentials(client, "x", storage))
        .await;
    assert_eq!((status, &answer["error_codes"]), (400, &json!([90_002])));
}

#[actix_web::test]
async fn a_user_signs_in_and_gets_a_token_in_the_shape_the_api_accepts() {
    let world = World::start().await;
    let v2 = world
        .sign_in(
            "Ada@contoso.example",
            ADA_PASSWORD,
            "api://sas-broker/sas.issue",
        )
        .await;
    let expected = json!({
        "aud": BROKER_CLIENT, "iss": format!("{}{TENANT}/v2.0", world.azure.authority()),
        "ver": "2.0", "tid": TENANT, "oid": ADA, "scp": "sas.issue",
        "azp": PUBLIC_CLIENT, "azpacr": "0", "roles": ["SasBroker.Auditor"],
        "groups": [ANALYSTS], "idtyp": "user", "preferred_username": "ada@contoso.example",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&v2[name], value, "{name}");
    }
    assert_eq!(
        v2["exp"],
        json!((START + Duration::seconds(3_599)).unix_timestamp())
    );
    assert_eq!(v2["nbf"], v2["iat"]);
    assert_ne!(v2["sub"], v2["oid"], "a user's sub is pairwise");
    assert_eq!(v2["appid"], Value::Null);

    let v1 = world
        .sign_in("ada@contoso.example", ADA_PASSWORD, "api://legacy/.default")
        .await;
    let expected = json!({
        "aud": "api://legacy", "iss": format!("https://sts.windows.net/{TENANT}/"),
        "ver": "1.0", "appid": PUBLIC_CLIENT, "appidacr": "0", "upn": "ada@contoso.example",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&v1[name], value, "{name}");
    }
    for absent in ["groups", "idtyp", "azp", "roles"] {
        assert_eq!(v1[absent], Value::Null, "{absent}");
    }
}

#[actix_web::test]
async fn more_than_two_hundred_groups_become_a_pointer_to_the_directory() {
    let world = World::start().await;
    let scope = "api://sas-broker/.default openid";
    let claims = world
        .sign_in("eve@contoso.example", "canary-eve-password", scope)
        .await;
    assert_eq!(claims["groups"], Value::Null);
    assert_eq!(claims["_claim_names"], json!({ "groups": "src1" }));
    let endpoint = claims["_claim_sources"]["src1"]["endpoint"]
        .as_str()
        .unwrap();
    assert!(
        endpoint.ends_with(&format!("users/{EVE}/getMemberObjects")),
        "{endpoint}"
    );
    assert_eq!(claims["scp"], "sas.issue sas.read");
}

#[actix_web::test]
async fn the_official_credential_signs_an_application_in() {
    let world = World::start().await;
    let scopes = ["api://sas-broker/.default"];
    let token = world
        .credential(BROKER_SECRET)
        .get_token(&scopes, None)
        .await
        .unwrap();
    let claims = part(token.token.secret(), 1);
    assert_eq!(claims["oid"], json!(BROKER));
    assert_eq!(claims["sub"], json!(BROKER));
    assert_eq!(claims["azpacr"], "1");
    assert_eq!(claims["idtyp"], "app");
    assert_eq!(claims["roles"], json!(["SasBroker.Admin"]));
    assert_eq!(claims["scp"], Value::Null);
    assert!(
        world
            .credential("wrong")
            .get_token(&scopes, None)
            .await
            .is_err()
    );
}

#[actix_web::test]
async fn a_rolled_key_signs_and_a_removed_key_no_longer_counts() {
    let world = World::start().await;
    let first = world.azure.signing_key_ids()[0].clone();
    let spec = TokenSpec::application(TENANT, BROKER, "https://storage.azure.com");
    let old = world.azure.mint(&spec);
    let second = world.azure.roll_signing_key();
    let new = world.azure.mint(&spec);
    assert_eq!(part(&old, 0)["kid"], json!(first));
    assert_eq!(part(&new, 0)["kid"], json!(second));
    let keys = world.json(&format!("{TENANT}/discovery/v2.0/keys")).await;
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    assert_eq!(world.key_with(&old).await.0, 200);

    assert!(world.azure.remove_signing_key(&first));
    assert_eq!(
        world.key_with(&old).await,
        refused(401, "InvalidAuthenticationInfo")
    );
    assert_eq!(world.key_with(&new).await.0, 200);
    assert!(
        !world.azure.remove_signing_key(&second),
        "the last key stays"
    );
}

#[actix_web::test]
async fn storage_refuses_every_forged_or_misdirected_token() {
    let world = World::start().await;
    let good = || TokenSpec::application(TENANT, BROKER, "https://storage.azure.com");
    let signed = |signature| TokenSpec {
        signature,
        ..good()
    };
    let kid = world.azure.signing_key_ids()[0].clone();
    let past = (START - Duration::seconds(1)).unix_timestamp();
    let soon = (START + Duration::seconds(1)).unix_timestamp();
    assert_eq!(world.key_with(&world.azure.mint(&good())).await.0, 200);
    let v1 = TokenSpec {
        version: TokenVersion::V1,
        ..good()
    };
    assert_eq!(world.key_with(&world.azure.mint(&v1)).await.0, 200);
    let cases = [
        ("unsigned", signed(TokenSignature::Unsigned)),
        (
            "public key as secret",
            signed(TokenSignature::HmacWithPublicKey),
        ),
        ("stranger's key", signed(TokenSignature::Unpublished)),
        (
            "stranger under our kid",
            signed(TokenSignature::Unpublished).with_header("kid", kid),
        ),
        ("unknown key", signed(TokenSignature::Key("gone".into()))),
        ("no kid", good().with_header("kid", Value::Null)),
        (
            "other audience",
            good().with_claim("aud", "https://vault.azure.net"),
        ),
        (
            "other issuer",
            good().with_claim("iss", "https://login.example/v2.0"),
        ),
        (
            "other tenant",
            TokenSpec::application(OTHER_TENANT, BROKER, "https://storage.azure.com"),
        ),
        ("expired", good().with_claim("exp", past)),
        ("not yet valid", good().with_claim("nbf", soon)),
        ("nobody", good().with_claim("oid", Value::Null)),
    ];
    for (name, spec) in cases {
        let token = world.azure.mint(&spec);
        let outcome = world.key_with(&token).await;
        assert_eq!(outcome, refused(401, "InvalidAuthenticationInfo"), "{name}");
    }
    let raw = world
        .azure
        .sign_raw(r#"{"alg":"RS256","alg":"none"}"#, "{}");
    assert_eq!(
        world.key_with(&raw).await,
        refused(401, "InvalidAuthenticationInfo")
    );
}

#[test]
fn no_secret_of_the_world_is_printed_by_debug() {
    let printed = format!("{:?}", spec());
    assert!(
        printed.contains("contoso.example") && !printed.contains("canary"),
        "{printed}"
    );
}
