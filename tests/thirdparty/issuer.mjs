// A stand-in for Entra ID over HTTPS on loopback: the signing, the discovery document and the JWKS
// are oauth2-mock-server's, not ours, so that the broker's token check meets a stranger's tokens.
//
//   GET  /{tenant}/v2.0/.well-known/openid-configuration, /{tenant}/v2.0/jwks   oauth2-mock-server
//   POST /{tenant}/oauth2/v2.0/token   the broker's own identity: client credentials -> a token
//                                      that Blob storage accepts
//   POST /control/token   {"claims": {...}, "expires_in": s} -> {"token"}: a caller's access token
//   POST /control/roll    {"retire_old": bool}: sign with a new key from now on; the old one stays
//                                      published beside it, or not
//   GET  /control/requests             how often each public path was asked for
//   GET  /control/storage-tokens       {"tokens"}: all that the broker's own identity was given
//
// Arguments: one JSON object with `certificate`, `key` (files), `modules` (node_modules), `tenant`,
// `client` {id, secret, object_id}. Prints {"port"} when it listens.

import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const options = JSON.parse(process.argv[2]);
const library = createRequire(`${options.modules}/`).resolve("oauth2-mock-server");
const { Events, OAuth2Issuer, OAuth2Service } = await import(pathToFileURL(library));

const STORAGE_TOKEN_SECONDS = 3600;
const BODY_BYTES_MAX = 65536;
const openIdPath = `/${options.tenant}/v2.0`;
const tokenPath = `/${options.tenant}/oauth2/v2.0/token`;

let origin;
let issuer;
let service;
let signingKey;
const requests = {};
const storageTokens = [];

/** Starts to sign with a new key. No key can be removed, so that the issuer is made anew. */
async function roll(retireOld) {
  const next = new OAuth2Issuer();
  next.url = origin + openIdPath;
  for (const jwk of retireOld ? [] : issuer.keys.toJSON(true)) await next.keys.add(jwk);
  signingKey = await next.keys.generate("RS256");
  issuer = next;
  service = new OAuth2Service(next);
  service.on(Events.BeforeWellKnownOpenIdConfiguration, ({ body }) => {
    body.token_endpoint = origin + tokenPath;
  });
}

/** A token of the newest key; `claims` replace what the library sets, null removes it. */
function sign(claims, expiresIn) {
  const transform = (_header, payload) => {
    for (const [name, value] of Object.entries(claims)) {
      if (value === null) delete payload[name];
      else payload[name] = value;
    }
  };
  return issuer.buildToken({ kid: signingKey.kid, expiresIn, scopesOrTransform: transform });
}

/** Blob storage only takes tokens of the v1 issuer, with the object id of who asks. */
async function storageToken(form) {
  const expected = {
    grant_type: "client_credentials",
    client_id: options.client.id,
    client_secret: options.client.secret,
  };
  const wrong = Object.keys(expected).find((name) => form.get(name) !== expected[name]);
  if (wrong) return [401, { error: "invalid_client", error_description: `wrong ${wrong}` }];
  const audience = form.get("scope")?.replace(/\/\.default$/, "");
  const claims = {
    iss: `https://sts.windows.net/${options.tenant}/`,
    aud: audience,
    oid: options.client.object_id,
    tid: options.tenant,
    appid: options.client.id,
  };
  const token = await sign(claims, STORAGE_TOKEN_SECONDS);
  storageTokens.push(token);
  return [200, { token_type: "Bearer", expires_in: STORAGE_TOKEN_SECONDS, access_token: token }];
}

async function control(path, body) {
  switch (path) {
    case "/control/token": {
      const { claims, expires_in: expiresIn } = JSON.parse(body);
      return [200, { token: await sign(claims, expiresIn) }];
    }
    case "/control/roll":
      await roll(JSON.parse(body).retire_old);
      return [200, { kid: signingKey.kid }];
    case "/control/requests":
      return [200, requests];
    case "/control/storage-tokens":
      return [200, { tokens: storageTokens }];
    default:
      return [404, { error: "not_found" }];
  }
}

async function bodyOf(request) {
  let body = "";
  for await (const chunk of request) {
    body += chunk;
    if (body.length > BODY_BYTES_MAX) throw new Error("the body is too long");
  }
  return body;
}

async function answer(request, response) {
  const path = request.url;
  if (path.startsWith("/control/")) return control(path, await bodyOf(request));
  requests[path] = (requests[path] ?? 0) + 1;
  if (request.method === "POST" && path === tokenPath) {
    return storageToken(new URLSearchParams(await bodyOf(request)));
  }
  if (!path.startsWith(`${openIdPath}/`)) return [404, { error: "not_found" }];
  request.url = path.slice(openIdPath.length);
  service.requestHandler(request, response);
  return null;
}

const files = { cert: readFileSync(options.certificate), key: readFileSync(options.key) };
const server = createServer(files, async (request, response) => {
  try {
    const reply = await answer(request, response);
    if (reply === null) return;
    response.writeHead(reply[0], { "content-type": "application/json" });
    response.end(JSON.stringify(reply[1]));
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
});
server.listen(0, "127.0.0.1", async () => {
  origin = `https://127.0.0.1:${server.address().port}`;
  await roll(true);
  console.log(JSON.stringify({ port: server.address().port }));
});
process.on("SIGTERM", () => process.exit(0));
