-- Idempotency keys (and versions, for /documents/) on a Redis that several nginx may share, as one would write it by
-- hand: the same as idempotency.lua, with Redis in place of the dictionary. It stays below Onceward's promises: a
-- crash between its two steps leaves a key that says "running" for a day, and a resource locked for a minute; and a
-- write that takes longer than that ends a turn that is another's by then.
--
-- As few round trips as Redis allows: SET with NX and GET claims a key or brings what stands there, in one; the answer
-- is a SET. A versioned write takes its turn and reads the version in the round trip of its claim, and moves the
-- version and ends the turn in that of its answer. Commands that go together are one write.

local TTL = "86400"
local TURN_TTL = "60"
local METHODS = { POST = ngx.HTTP_POST, PUT = ngx.HTTP_PUT }

local port, pool

local M = {}

function M.redis(at, connections)
    port, pool = at, { pool = "redis", pool_size = connections + 16 }
end

local function refuse(status, why)
    ngx.status = status
    ngx.header["Content-Type"] = "text/plain"
    ngx.print(why, "\n")
end

local function command(...)
    local words = { ... }
    local wire = { "*" .. #words .. "\r\n" }
    for at, word in ipairs(words) do
        wire[at + 1] = "$" .. #word .. "\r\n" .. word .. "\r\n"
    end
    return table.concat(wire)
end

-- One answer: a string, a number, false for nothing; nil and why.
local function answered(socket)
    local line, why = socket:receive("*l")
    if not line then
        return nil, why
    end
    local kind, rest = line:sub(1, 1), line:sub(2)
    if kind == "$" then
        if rest == "-1" then
            return false
        end
        local value, failed = socket:receive(tonumber(rest) + 2)
        return value and value:sub(1, -3), failed
    end
    if kind == "-" then
        return nil, rest
    end
    return kind == ":" and tonumber(rest) or rest
end

-- Sends commands as one and takes so many answers; nil and why.
local function ask(many, wire)
    local socket = ngx.socket.tcp()
    socket:settimeout(5000)
    local connected, why = socket:connect("127.0.0.1", port, pool)
    if not connected then
        return nil, why
    end
    local sent, failed = socket:send(wire)
    if not sent then
        return nil, failed
    end
    local answers = {}
    for at = 1, many do
        local one, wrong = answered(socket)
        if one == nil then
            socket:close()
            return nil, wrong
        end
        answers[at] = one
    end
    socket:setkeepalive(3600000)
    return answers
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

-- Forwards a write whose key is claimed; what is kept of it as a command, and the answer.
local function forward(method, uri, name, fingerprint)
    local got = ngx.location.capture("/upstream" .. uri, { method = method, always_forward_body = true })
    local content_type = got.header["Content-Type"] or ""
    local kept
    if got.truncated or got.status == 502 or got.status == 504 then
        kept = fingerprint .. "u"
    else
        kept = fingerprint .. got.status .. content_type .. "\n" .. got.body
    end
    return command("SET", name, kept, "EX", TTL), got.status, content_type, got.body
end

local function first(uri, method, name, fingerprint)
    local keep, status, content_type, body = forward(method, uri, name, fingerprint)
    if not ask(1, keep) then
        return refuse(503, "the answer could not be kept")
    end
    answer(status, content_type, body)
end

-- A refusal frees the key again, since nothing was done.
local function free(name, turn, why)
    ask(turn and 2 or 1, command("DEL", name) .. (turn and command("DEL", turn) or ""))
    return refuse(409, why)
end

local function versioned_first(uri, method, name, fingerprint, expected, stands)
    local turn = "turn " .. uri
    if stands[2] ~= "OK" then
        return free(name, nil, "another write to this resource is running")
    end
    if expected ~= tag(stands[3] or 0) then
        return free(name, turn, "the version is not the current one")
    end
    local keep, status, content_type, body = forward(method, uri, name, fingerprint)
    local moves = status < 400 and command("INCR", "version " .. uri) or command("GET", "version " .. uri)
    local done = ask(3, keep .. moves .. command("DEL", turn))
    if not done then
        return refuse(503, "the answer could not be kept")
    end
    -- Same field names as Onceward's, so that one load script can follow the versions of both.
    ngx.header["Onceward-Resource"] = uri
    if status < 400 then
        ngx.header["Onceward-Version"] = tag(done[2])
    end
    answer(status, content_type, body)
end

function M.read()
    local uri = ngx.var.request_uri
    -- Read before the body is fetched, so that the tag is never newer than it.
    local stands = ask(1, command("GET", "version " .. uri))
    if not stands then
        return refuse(503, "the store does not answer")
    end
    local got = ngx.location.capture("/upstream" .. uri)
    ngx.header["Onceward-Resource"] = uri
    ngx.header["ETag"] = tag(stands[1] or 0)
    answer(got.status, got.header["Content-Type"] or "", got.body)
end

function M.write(versioned)
    local var = ngx.var
    local method, uri = var.request_method, var.request_uri
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
    local name = "key " .. (var.http_authorization or "") .. "\n" .. key
    local wire, many = command("SET", name, fingerprint, "NX", "GET", "EX", TTL), 1
    if versioned then
        -- A turn that is taken for a key that stands already is given back; that is rare.
        wire = wire .. command("SET", "turn " .. uri, "1", "NX", "EX", TURN_TTL) .. command("GET", "version " .. uri)
        many = 3
    end
    local stands, why = ask(many, wire)
    if not stands then
        return refuse(503, "the store does not answer: " .. tostring(why))
    end
    local record = stands[1]
    if record then
        if stands[2] == "OK" then
            ask(1, command("DEL", "turn " .. uri))
        end
        if record:sub(1, 16) ~= fingerprint then
            return refuse(422, "the key was used for another request")
        end
        return replay(record)
    end
    if versioned then
        return versioned_first(uri, METHODS[method], name, fingerprint, expected, stands)
    end
    first(uri, METHODS[method], name, fingerprint)
end

function M.document()
    if ngx.var.request_method == "GET" then
        return M.read()
    end
    return M.write(true)
end

return M
