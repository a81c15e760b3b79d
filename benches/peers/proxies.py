"""The proxies beside Portcullis, each in the configuration that its own documentation advises for load.

Each is a function of a `Place` that writes what its proxy reads and gives the commands that run it. All of their processes are
charged to the proxy. What is claimed to be refused (`refuses`) is asked before each run.
"""

import getpass
import glob
import json
import os
import sys
from dataclasses import dataclass

from material import AUDIENCE, ISSUER
from process import free_port


@dataclass
class Place:
    """Where a proxy runs: its directory, its port, what is behind it and how it is asked."""
    dir: str
    port: int
    upstream: int
    keys: str
    beside: str
    workers: int
    # "http", "tls" (HTTP/1.1 in it) or "h2" (in the clear, as a caller begins that knows)
    face: str = "http"

    def write(self, name, text):
        with open(os.path.join(self.dir, name), "w") as file:
            file.write(text)
        return os.path.join(self.dir, name)

    def key(self, name):
        return os.path.join(self.keys, name)


@dataclass
class Proxy:
    start: object
    # The answers to a bad signature and to a path that nobody may ask for; None if it looks at neither.
    refuses: tuple = None
    faces: tuple = ("http", "tls", "h2")


def environment(place):
    """Go's proxies take their number of threads and their folders from it."""
    return {"GOMAXPROCS": str(place.workers), "HOME": place.dir, "XDG_CONFIG_HOME": place.dir,
            "XDG_DATA_HOME": place.dir}


def nginx(place, *, asks=None, log=False):
    listen = {"http": "", "tls": " ssl", "h2": " http2"}[place.face]
    config = f"""
{foreground()} pid {place.dir}/nginx.pid; error_log {place.dir}/nginx.log error;
worker_processes {place.workers}; worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  {temporary(place)}
  keepalive_timeout 600s; keepalive_requests 1000000000;
  client_max_body_size 0; client_body_buffer_size 2m; proxy_buffers 16 64k; proxy_max_temp_file_size 0;
  ssl_certificate {place.key("cert.pem")}; ssl_certificate_key {place.key("key.pem")};
  log_format whole escape=json '{{"time":"$time_iso8601","client":"$remote_addr","method":"$request_method",'
    '"uri":"$request_uri","status":$status,"bytes":$body_bytes_sent,"seconds":$request_time,"agent":"$http_user_agent"}}';
  access_log {f"{place.dir}/access.log whole buffer=64k flush=1s" if log else "off"};
  upstream service {{ server 127.0.0.1:{place.upstream}; keepalive 4096; keepalive_requests 1000000000; }}
  {f"upstream authority {{ server 127.0.0.1:{asks}; keepalive 4096; keepalive_requests 1000000000; }}" if asks else ""}
  server {{
    listen 127.0.0.1:{place.port}{listen} backlog=8192;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header X-Forwarded-For $remote_addr;
    location / {{ {"auth_request /authority;" if asks else ""} proxy_pass http://service; }}
    {AUTHORITY if asks else ""}
  }}
}}
"""
    return [["nginx", "-p", place.dir, "-e", f"{place.dir}/nginx.log", "-c", place.write("nginx.conf", config)]]


AUTHORITY = """location = /authority {
      internal; proxy_pass http://authority; proxy_pass_request_body off; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Content-Length "";
      proxy_set_header X-Original-Uri $request_uri; proxy_set_header X-Original-Method $request_method;
    }"""


def foreground():
    # Its workers must be able to read the run's directory, which is nobody else's.
    return f"daemon off; user {getpass.getuser()};" if os.geteuid() == 0 else "daemon off;"


def temporary(place):
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {place.dir}/{kind};" for kind in kinds)


def nginx_with_authority(place, authority_port):
    authority = [place.beside, "authorize", "--listen", f"127.0.0.1:{authority_port}", "--workers", place.workers,
                 "--key-set", place.key("jwks.json"), "--issuer", ISSUER, "--audience", AUDIENCE]
    return [authority, *nginx(place, asks=authority_port, log=True)]


def haproxy(place, *, checks=False):
    bind = {"http": "", "tls": f" ssl crt {place.key('both.pem')} alpn http/1.1", "h2": " proto h2"}[place.face]
    rules = f"""
  http-request set-var(txn.token) http_auth_bearer
  http-request deny deny_status 401 unless {{ var(txn.token),jwt_header_query('$.alg') -m str ES256 }}
  http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify("ES256","{place.key('issuer.pem')}") -m int 1 }}
  http-request set-var(txn.expires) var(txn.token),jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 if {{ var(txn.expires),sub(txn.now) -m int lt 0 }}
  http-request deny deny_status 401 unless {{ var(txn.token),jwt_payload_query('$.iss') -m str {ISSUER} }}
  http-request deny deny_status 401 unless {{ var(txn.token),jwt_payload_query('$.aud') -m str {AUDIENCE} }}
  http-request set-var(txn.role) var(txn.token),jwt_payload_query('$.role')
  http-request deny deny_status 403 unless {{ var(txn.role) -m str reader }} {{ path_beg /orders/ }} {{ method GET POST }}
"""
    config = f"""
global
  nbthread {place.workers}
  maxconn 8000
  {"log stdout format raw local0" if checks else ""}
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  http-reuse always
  {"log global" if checks else ""}
  {"option httplog" if checks else ""}
frontend front
  bind 127.0.0.1:{place.port}{bind}
{rules if checks else ""}
  option forwardfor
  default_backend service
backend service
  server one 127.0.0.1:{place.upstream} pool-max-conn -1
"""
    return [["haproxy", "-db", "-f", place.write("haproxy.cfg", config)]]


def envoy(place, *, checks=False):
    kind = lambda name: f"type.googleapis.com/envoy.{name}"
    filters = [{"name": "router", "typed_config": {"@type": kind("extensions.filters.http.router.v3.Router")}}]
    manager = {
        "@type": kind("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "front", "codec_type": "HTTP2" if place.face == "h2" else "HTTP1",
        "use_remote_address": True, "generate_request_id": False,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "service", "timeout": "0s"}}]}]},
    }
    if checks:
        filters = [envoy_jwt(place, kind), envoy_rbac(kind), *filters]
        manager["access_log"] = [{"name": "file", "typed_config": {
            "@type": kind("extensions.access_loggers.file.v3.FileAccessLog"), "path": f"{place.dir}/access.log",
            "log_format": {"json_format": {
                "time": "%START_TIME%", "client": "%DOWNSTREAM_REMOTE_ADDRESS%", "method": "%REQ(:METHOD)%",
                "path": "%REQ(:PATH)%", "status": "%RESPONSE_CODE%", "why": "%RESPONSE_CODE_DETAILS%",
                "bytes": "%BYTES_SENT%", "ms": "%DURATION%", "agent": "%REQ(USER-AGENT)%",
                "subject": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:claims:sub)%"}}}}]
    manager["http_filters"] = filters
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    if place.face == "tls":
        pair = {"certificate_chain": {"filename": place.key("cert.pem")},
                "private_key": {"filename": place.key("key.pem")}}
        chain["transport_socket"] = {"name": "tls", "typed_config": {
            "@type": kind("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {"tls_certificates": [pair], "alpn_protocols": ["http/1.1"]}}}
    no_bound = {"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}
    config = {"static_resources": {
        "listeners": [{"name": "front", "address": envoy_address(place.port), "filter_chains": [chain]}],
        "clusters": [{"name": "service", "type": "STATIC", "connect_timeout": "5s",
                      "circuit_breakers": {"thresholds": [no_bound]},
                      "load_assignment": {"cluster_name": "service", "endpoints": [{"lb_endpoints": [
                          {"endpoint": {"address": envoy_address(place.upstream)}}]}]}}]}}
    file = place.write("envoy.json", json.dumps(config, indent=1))
    binary = glob.glob(f"{sys.prefix}/lib/python*/site-packages/envoy/_bin/envoy")[0]
    return [[binary, "-c", file, "--concurrency", place.workers, "--log-level", "error", "--disable-hot-restart"]]


def envoy_address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def envoy_jwt(place, kind):
    provider = {"issuer": ISSUER, "audiences": [AUDIENCE], "local_jwks": {"filename": place.key("jwks.json")},
                "payload_in_metadata": "claims", "jwt_cache_config": {"jwt_cache_size": 10000}}
    return {"name": "envoy.filters.http.jwt_authn", "typed_config": {
        "@type": kind("extensions.filters.http.jwt_authn.v3.JwtAuthentication"), "providers": {"issuer": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}]}}


def envoy_rbac(kind):
    method = lambda word: {"header": {"name": ":method", "string_match": {"exact": word}}}
    orders = {"url_path": {"path": {"prefix": "/orders/"}}}
    reader = {"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": [{"key": "claims"}, {"key": "role"}],
                           "value": {"string_match": {"exact": "reader"}}}}
    may = {"and_rules": {"rules": [{"or_rules": {"rules": [method("GET"), method("POST")]}}, orders]}}
    return {"name": "envoy.filters.http.rbac", "typed_config": {
        "@type": kind("extensions.filters.http.rbac.v3.RBAC"),
        "rules": {"action": "ALLOW", "policies": {"orders": {"permissions": [may], "principals": [reader]}}}}}


def traefik(place):
    tls = {"tls": {}} if place.face == "tls" else {}
    routing = {"http": {
        "routers": {"all": {"rule": "PathPrefix(`/`)", "service": "service", "entryPoints": ["front"], **tls}},
        "services": {"service": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{place.upstream}"}]}}}}}
    if tls:
        pair = {"certFile": place.key("cert.pem"), "keyFile": place.key("key.pem")}
        routing["tls"] = {"stores": {"default": {"defaultCertificate": pair}},
                          "options": {"default": {"alpnProtocols": ["http/1.1"]}}}
    # JSON is YAML.
    routing = place.write("routing.yml", json.dumps(routing))
    static = {"entryPoints": {"front": {"address": f"127.0.0.1:{place.port}"}}, "log": {"level": "ERROR"},
              "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
              "serversTransport": {"maxIdleConnsPerHost": 4096},
              "providers": {"file": {"filename": routing, "watch": False}}}
    return [[f"{sys.prefix}/bin/traefik", f"--configFile={place.write('traefik.yml', json.dumps(static))}"]]


def caddy(place):
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{place.upstream}"}],
             "transport": {"protocol": "http",
                           "keep_alive": {"max_idle_conns": 4096, "max_idle_conns_per_host": 4096}}}
    server = {"listen": [f"127.0.0.1:{place.port}"], "protocols": ["h1", "h2c"] if place.face == "h2" else ["h1"],
              "automatic_https": {"disable": True}, "routes": [{"handle": [proxy]}]}
    apps = {"http": {"servers": {"front": server}}}
    if place.face == "tls":
        server["tls_connection_policies"] = [{"default_sni": "localhost"}]
        pair = {"certificate": place.key("cert.pem"), "key": place.key("key.pem")}
        apps["tls"] = {"certificates": {"load_files": [pair]}}
    config = {"admin": {"disabled": True}, "logging": {"logs": {"default": {"level": "ERROR"}}}, "apps": apps}
    return [[f"{sys.prefix}/bin/caddy", "run", "--config", place.write("caddy.json", json.dumps(config))]]


def bare(place, *, shared=False):
    return [[place.beside, "bare", "--listen", f"127.0.0.1:{place.port}", "--upstream", f"127.0.0.1:{place.upstream}",
             "--workers", place.workers, *(["--shared"] if shared else [])]]


def upstream(place):
    """What is behind all of them: nginx, one worker, an answer out of memory, and files for the large ones."""
    for name, size in (("64k", 64 << 10), ("1m", 1 << 20)):
        place.write(name, "x" * size)
    config = f"""
{foreground()} pid {place.dir}/upstream.pid; error_log {place.dir}/upstream.log error;
worker_processes 1; worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  {temporary(place)}
  access_log off; keepalive_timeout 600s; keepalive_requests 1000000000; default_type application/json;
  client_max_body_size 0; sendfile on; open_file_cache max=10; root {place.dir};
  server {{
    listen 127.0.0.1:{place.port} backlog=8192;
    location / {{ return 200 '{{"order":10042,"state":"shipped","items":[{{"sku":"kettle","count":1}}],"total":"39.90"}}'; }}
    location ~ /64k$ {{ try_files /64k =404; }}
    location ~ /1m$ {{ try_files /1m =404; }}
    # Reads the whole body before it answers, as services do that want it.
    location ~ /up$ {{
      client_body_buffer_size 2m; proxy_pass http://unix:{place.dir}/answers;
      proxy_pass_request_body off; proxy_set_header Content-Length "";
    }}
  }}
  server {{ listen unix:{place.dir}/answers; location / {{ return 200 "taken"; }} }}
}}
"""
    return [["nginx", "-p", place.dir, "-e", f"{place.dir}/upstream.log", "-c", place.write("upstream.conf", config)]]


CHECKS = (401, 403)
CLEAR = ("http", "h2")

PROXIES = {
    "nginx": Proxy(nginx),
    "haproxy": Proxy(haproxy),
    "envoy": Proxy(envoy),
    "traefik": Proxy(traefik),
    "caddy": Proxy(caddy),
    "bare": Proxy(bare, faces=CLEAR),
    "bare-shared": Proxy(lambda place: bare(place, shared=True), faces=CLEAR),
    "envoy+jwt": Proxy(lambda place: envoy(place, checks=True), CHECKS),
    "haproxy+jwt": Proxy(lambda place: haproxy(place, checks=True), CHECKS),
    "nginx+auth": Proxy(lambda place: nginx_with_authority(place, free_port()), CHECKS),
}
