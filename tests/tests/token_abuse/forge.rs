//! Tokens as nobody ought to have them: forged with what is public, and, by the installation's own signing key, such as it never signs.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use dev::{Service, Stack};
use jsonwebtoken::{Algorithm, EncodingKey};
use kit::auth::token::{CLOCK_SKEW_MAX_S, TOKEN_BYTES_MAX, TOKEN_TTL_MAX_S};
use kit::seal::MasterKey;
use scenarios::client::Person;
use serde_json::{Value, json};

/// What is sent as `authorization`, and the reason it is refused with.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) headers: Vec<Vec<u8>>,
    pub(crate) reason: &'static str,
}

/// The installation's signing key, which a test that runs the installation can open.
pub(crate) struct Forger {
    kid: String,
    pkcs8: Vec<u8>,
    /// SEC1, as anybody may compute it from the JWK Set.
    public_point: Vec<u8>,
    header: Value,
    claims: Value,
    now_s: u64,
}

impl Forger {
    /// Forges after the model of a good token.
    pub(crate) fn new(stack: &Stack, good: &str, now_s: u64) -> Result<Forger> {
        let row = stack.sql(
            "SELECT kid, translate(encode(sealed_key, 'base64'), E'\\n', ''), \
             translate(encode(public_point, 'base64'), E'\\n', '') FROM registry.signing_keys",
        )?;
        let [kid, sealed, point] = row.trim().split('|').collect::<Vec<_>>()[..] else {
            anyhow::bail!("not one signing key: {} lines", row.lines().count());
        };
        let name = format!("{}.master-key", Service::Registry.name());
        let master = MasterKey::load(&stack.dir().join(name))?;
        let pkcs8 = master.open(&STANDARD.decode(sealed)?, &format!("registry.signing_keys/{kid}"))?;
        let mut parts = good.split('.').map(|part| URL_SAFE_NO_PAD.decode(part));
        let mut part = || anyhow::Ok(serde_json::from_slice(&parts.next().context("too few parts")??)?);
        let (header, claims) = (part()?, part()?);
        let (pkcs8, public_point) = (pkcs8.expose().clone(), STANDARD.decode(point)?);
        Ok(Forger { kid: kid.to_owned(), pkcs8, public_point, header, claims, now_s })
    }

    /// A token that is as good as one of the registry's.
    pub(crate) fn good(&self) -> Result<String> {
        self.token(&self.header, &self.claims)
    }

    /// A good one of exactly so many bytes.
    pub(crate) fn good_of(&self, bytes: usize) -> Result<String> {
        let padded = |count: usize| self.with_claim("padding", json!("x".repeat(count)));
        let count = bytes.saturating_sub(padded(0)?.len());
        // Three bytes are four characters: the length meant is among these.
        let mut tokens = (count * 3 / 4).saturating_sub(3)..=count * 3 / 4 + 3;
        let token = tokens.find_map(|count| padded(count).ok().filter(|token| token.len() == bytes));
        token.context("no padding makes that length")
    }

    /// All there is to refuse.
    pub(crate) fn cases(&self, person: &Person) -> Result<Vec<Case>> {
        let good = self.good()?;
        Ok([self.times(person)?, self.names()?, self.signatures(person, &good)?, self.headers(&good)?]
            .into_iter()
            .flatten()
            .collect())
    }

    /// Signed by the right key, and yet not to be believed.
    fn times(&self, person: &Person) -> Result<Vec<Case>> {
        let (now, skew) = (self.now_s, CLOCK_SKEW_MAX_S + 60);
        let mut elsewhere = self.claims.clone();
        elsewhere["aud"] = json!("holdfast/token");
        elsewhere["iss"] = json!(person.key);
        Ok(vec![
            one("expired a second ago", self.with_claim("exp", json!(now - 1))?, "TOKEN_EXPIRED"),
            one("expired in 1970", self.with_claim("exp", json!(0))?, "TOKEN_EXPIRED"),
            one("not yet valid", self.with_claim("nbf", json!(now + skew))?, "TOKEN_BAD_CLAIMS"),
            one("issued in the future", self.with_claim("iat", json!(now + skew))?, "TOKEN_BAD_CLAIMS"),
            one(
                "living too long",
                self.with_claim("exp", json!(now + TOKEN_TTL_MAX_S + skew))?,
                "TOKEN_BAD_CLAIMS",
            ),
            one("living for ever", self.with_claim("exp", json!(u64::MAX))?, "TOKEN_BAD_CLAIMS"),
            one("of an expiry that is no number", self.with_claim("exp", json!("soon"))?, "TOKEN_BAD_CLAIMS"),
            one("without an expiry", self.without_claim("exp")?, "TOKEN_BAD_CLAIMS"),
            one("for another audience", self.with_claim("aud", json!("other"))?, "TOKEN_BAD_CLAIMS"),
            one(
                "for us and others",
                self.with_claim("aud", json!(["holdfast", "other"]))?,
                "TOKEN_BAD_CLAIMS",
            ),
            one("of another issuer", self.with_claim("iss", json!("https://other"))?, "TOKEN_BAD_CLAIMS"),
            one("an assertion's claims", self.token(&self.header, &elsewhere)?, "TOKEN_BAD_CLAIMS"),
            one("of every tenant", self.with_claim("tenant", json!("*"))?, "TOKEN_BAD_CLAIMS"),
            one("of a role that is none", self.with_claim("role", json!("root"))?, "TOKEN_BAD_CLAIMS"),
        ])
    }

    /// Naming a key that is not ours, whatever the name may do to whoever looks it up.
    fn names(&self) -> Result<Vec<Case>> {
        let named = |name, kid: &str| -> Result<Case> {
            Ok(one(name, self.with_header("kid", json!(kid))?, "TOKEN_UNKNOWN_KEY"))
        };
        Ok(vec![
            named("an unknown key", "another")?,
            named("a key that is a file", "../../../../../../dev/null")?,
            named("a key that is an address", "https://localhost/jwks.json")?,
            named("a key that is SQL", "' OR '1'='1")?,
            named("a key with a NUL and a newline", "a\0b\nc")?,
            named("the right key and more", &format!("{}/../{}", self.kid, self.kid))?,
            one("no key", self.with_header("kid", Value::Null)?, "TOKEN_MALFORMED"),
            one("a key that is a list", self.with_header("kid", json!([self.kid]))?, "TOKEN_MALFORMED"),
        ])
    }

    /// Not signed by the key it names.
    fn signatures(&self, person: &Person, good: &str) -> Result<Vec<Case>> {
        let (signed, signature) = good.rsplit_once('.').context("too few parts")?;
        let (header, claims) = signed.split_once('.').context("too few parts")?;
        let mut foreign = self.claims.clone();
        foreign["tenant"] = json!(format!("tn{}", "0".repeat(32)));
        let (mut own_key, mut fetched) = (self.header.clone(), self.header.clone());
        own_key["jwk"] = json!({
            "kty": "EC", "crv": "P-256",
            "x": encode(&person.private.public_key_raw()[1..33]), "y": encode(&person.private.public_key_raw()[33..]),
        });
        fetched["jku"] = json!("https://localhost/jwks.json");
        let thief = EncodingKey::from_ec_der(person.private.serialized_der());
        let stolen = |header: &Value| sign(header, &self.claims, Algorithm::ES256, &thief);
        let confused = |secret: &[u8]| {
            let header = json!({"alg": "HS256", "typ": "JWT", "kid": self.kid});
            sign(&header, &self.claims, Algorithm::HS256, &EncodingKey::from_secret(secret))
        };
        let unsigned = |alg: &str| {
            let header = json!({"alg": alg, "typ": "JWT", "kid": self.kid});
            format!("{}.{claims}.", part(&header))
        };
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n", STANDARD.encode(&self.public_point));
        let renamed = json!({"alg": "ES384", "typ": "JWT", "kid": self.kid});
        Ok(vec![
            one(
                "with another tenant written into it",
                format!("{header}.{}.{signature}", part(&foreign)),
                "TOKEN_BAD_SIGNATURE",
            ),
            one("signed by a person's own key", stolen(&self.header)?, "TOKEN_BAD_SIGNATURE"),
            one("that brings its own key", stolen(&own_key)?, "TOKEN_BAD_SIGNATURE"),
            one("that says where its key is", stolen(&fetched)?, "TOKEN_BAD_SIGNATURE"),
            one("the assertion it was got with", person.assertion()?, "TOKEN_MALFORMED"),
            one("of alg none", unsigned("none"), "TOKEN_MALFORMED"),
            one("of alg nOnE", unsigned("nOnE"), "TOKEN_MALFORMED"),
            one(
                "of alg none with the old signature",
                format!("{}{signature}", unsigned("none")),
                "TOKEN_MALFORMED",
            ),
            one("HS256 by the public key", confused(&self.public_point)?, "TOKEN_MALFORMED"),
            one("HS256 by the public key as PEM", confused(pem.as_bytes())?, "TOKEN_MALFORMED"),
            one("HS256 by nothing", confused(b"")?, "TOKEN_MALFORMED"),
            one("renamed to ES384", format!("{}.{claims}.{signature}", part(&renamed)), "TOKEN_MALFORMED"),
            one("stripped of its signature", format!("{signed}."), "TOKEN_BAD_SIGNATURE"),
            one("stripped of its signature and the dot", signed.to_owned(), "TOKEN_MALFORMED"),
            // CVE-2022-21449: r = s = 0.
            one("signed by zeros", format!("{signed}.{}", encode(&[0; 64])), "TOKEN_BAD_SIGNATURE"),
            one("with a fourth part", format!("{good}.{signature}"), "TOKEN_MALFORMED"),
            one(
                "with an extension that must be understood",
                self.with_header("crit", json!(["b64"]))?,
                "TOKEN_MALFORMED",
            ),
            one("with an empty crit", self.with_header("crit", json!([]))?, "TOKEN_MALFORMED"),
        ])
    }

    /// What is wrong with the header that carries it.
    fn headers(&self, good: &str) -> Result<Vec<Case>> {
        let bearer = |token: &str| format!("Bearer {token}").into_bytes();
        let several = |name, headers, reason| Case { name, headers, reason };
        let bytes = |name, header: &[u8], reason| several(name, vec![header.to_vec()], reason);
        Ok(vec![
            several("no header", vec![], "TOKEN_MISSING"),
            bytes("an empty header", b"", "TOKEN_MISSING"),
            bytes("no token", b"Bearer ", "TOKEN_MISSING"),
            bytes("another scheme", b"Basic YTpi", "TOKEN_MISSING"),
            bytes("a token without a scheme", good.as_bytes(), "TOKEN_MISSING"),
            several("the same header twice", vec![bearer(good), bearer(good)], "TOKEN_MALFORMED"),
            several("a good header and a bad", vec![bearer(good), bearer("a.b.c")], "TOKEN_MALFORMED"),
            several("a bad header and a good", vec![bearer("a.b.c"), bearer(good)], "TOKEN_MALFORMED"),
            one("two tokens in one header", format!("{good}, Bearer {good}"), "TOKEN_MALFORMED"),
            bytes("what is not UTF-8", b"Bearer \xff\xfe\xc3(", "TOKEN_MALFORMED"),
            bytes("a good one behind it", &[b"\xff", &bearer(good)[..]].concat(), "TOKEN_MALFORMED"),
            bytes("a good one before it", &[&bearer(good)[..], b"\x80"].concat(), "TOKEN_MALFORMED"),
            one("a byte too long", self.good_of(TOKEN_BYTES_MAX + 1)?, "TOKEN_MALFORMED"),
            one("far too long", "x".repeat(3 * TOKEN_BYTES_MAX), "TOKEN_MALFORMED"),
            one("nothing but dots", "..".to_owned(), "TOKEN_MALFORMED"),
        ])
    }

    fn with_claim(&self, name: &str, value: Value) -> Result<String> {
        let mut claims = self.claims.clone();
        claims[name] = value;
        self.token(&self.header, &claims)
    }

    fn without_claim(&self, name: &str) -> Result<String> {
        let mut claims = self.claims.clone();
        claims.as_object_mut().context("claims")?.remove(name);
        self.token(&self.header, &claims)
    }

    fn with_header(&self, name: &str, value: Value) -> Result<String> {
        let mut header = self.header.clone();
        header[name] = value;
        self.token(&header, &self.claims)
    }

    fn token(&self, header: &Value, claims: &Value) -> Result<String> {
        sign(header, claims, Algorithm::ES256, &EncodingKey::from_ec_der(&self.pkcs8))
    }
}

fn one(name: &'static str, token: String, reason: &'static str) -> Case {
    Case { name, headers: vec![format!("Bearer {token}").into_bytes()], reason }
}

fn sign(header: &Value, claims: &Value, algorithm: Algorithm, key: &EncodingKey) -> Result<String> {
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm)?;
    Ok(format!("{signed}.{signature}"))
}

fn part(value: &Value) -> String {
    encode(value.to_string().as_bytes())
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
