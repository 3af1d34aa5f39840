-- Idempotency keys (and versions, for /documents/) in a small nginx script, as one would write it
-- by hand: what a team would otherwise put in place of Onceward. It claims a key, fingerprints the
-- request, keeps the answer before it is sent, and replays it. It stays below Onceward's promises:
-- no waiting, no comparing by meaning, no durable store, one machine.
--
-- A record is one string: the 16-byte fingerprint alone while the write runs, then the fingerprint
-- and "u" when nobody knows how it ended, or the three digits of the status, the content type, a
-- newline and the body.

local records = ngx.shared.records
local versions = ngx.shared.versions

local TTL = 24 * 60 * 60
local METHODS = { POST = ngx.HTTP_POST, PUT = ngx.HTTP_PUT }

local M = {}

local function refuse(status, why)
    ngx.status = status
    ngx.header["Content-Type"] = "text/plain"
    ngx.print(why, "\n")
end

local function answer(status, content_type, body)
    ngx.status = status
    ngx.header["Content-Type"] = content_type
    ngx.header["Content-Length"] = #body
    ngx.print(body)
end

local function tag(version)
    return '"' .. version .. '"'
end

local function replay(record)
    if #record == 16 then
        return refuse(409, "the first request with this key is still running")
    end
    if #record == 17 then
        return refuse(409, "nobody knows how the first request with this key ended")
    end
    local line = record:find("\n", 20, true)
    ngx.header["Idempotent-Replayed"] = "true"
    answer(tonumber(record:sub(17, 19)), record:sub(20, line - 1), record:sub(line + 1))
end

-- Forwards a write whose key is claimed and keeps its answer.
local function forward(method, uri, name, fingerprint)
    local got = ngx.location.capture("/upstream" .. uri, { method = method, always_forward_body = true })
    local content_type = got.header["Content-Type"] or ""
    if got.truncated or got.status == 502 or got.status == 504 then
        records:set(name, fingerprint .. "u", TTL)
    else
        records:safe_set(name, fingerprint .. got.status .. content_type .. "\n" .. got.body, TTL)
    end
    return got.status, content_type, got.body
end

-- The same in the turn of the resource, with its version compared before and counted up after. A
-- refusal frees the key again, since nothing was done.
local function forward_versioned(method, uri, name, fingerprint, expected)
    local turn = "turn " .. uri
    if not versions:safe_add(turn, true, TTL) then
        records:delete(name)
        return refuse(409, "another write to this resource is running")
    end
    if expected ~= tag(versions:get(uri) or 0) then
        versions:delete(turn)
        records:delete(name)
        return refuse(409, "the version is not the current one")
    end
    local status, content_type, body = forward(method, uri, name, fingerprint)
    -- Same field names as Onceward's, so that one load script can follow the versions of both.
    ngx.header["Onceward-Resource"] = uri
    if status < 400 then
        ngx.header["Onceward-Version"] = tag(versions:incr(uri, 1, 0))
    end
    versions:delete(turn)
    answer(status, content_type, body)
end

function M.read()
    local uri = ngx.var.request_uri
    -- Read before the body is fetched, so that the tag is never newer than it.
    local version = versions:get(uri) or 0
    local got = ngx.location.capture("/upstream" .. uri)
    ngx.header["Onceward-Resource"] = uri
    ngx.header["ETag"] = tag(version)
    answer(got.status, got.header["Content-Type"] or "", got.body)
end

function M.write(versioned)
    local var = ngx.var
    local method = var.request_method
    local uri = var.request_uri
    if not METHODS[method] then
        return refuse(405, "only POST and PUT write here")
    end
    local key = var.http_idempotency_key
    if not key or key == "" or #key > 255 then
        return refuse(400, "Idempotency-Key is missing or too long")
    end
    local expected = versioned and var.http_if_match
    if versioned and not expected then
        return refuse(428, "If-Match is missing")
    end

    ngx.req.read_body()
    local fingerprint = ngx.md5_bin(method .. " " .. uri .. "\n" .. (ngx.req.get_body_data() or ""))
    -- Keys belong to the agent that sent them.
    local name = (var.http_authorization or "") .. "\n" .. key

    local added, why = records:safe_add(name, fingerprint, TTL)
    if not added then
        if why ~= "exists" then
            return refuse(503, "the dictionary is full")
        end
        local record = records:get(name) or ""
        if record:sub(1, 16) ~= fingerprint then
            return refuse(422, "the key was used for another request")
        end
        return replay(record)
    end
    if versioned then
        return forward_versioned(METHODS[method], uri, name, fingerprint, expected)
    end
    answer(forward(METHODS[method], uri, name, fingerprint))
end

function M.document()
    if ngx.var.request_method == "GET" then
        return M.read()
    end
    return M.write(true)
end

return M
