-- The load, as a script for wrk. After "--" on wrk's command line, as name=value:
--   kind      get, post, put or replay
--   prefix    what the keys of this run begin with
--   answer    the length of the upstream's body: every answer must have it
--   limit     end after so many answers to one thread instead of at the end of the time (0: no limit)
--   keys      replay: how many keys were sent before under this prefix, by one thread
--   tags      put: "follow" to send the tag that the last write's answer gave, or "fixed"
--   target    post: where to, other than /tool/append_row
--   full      "ok": a 503 counts as refused, not as wrong (a store that is meant to fill up)
-- Every answer is checked; wrong ones are counted and the first one is shown. PORTS in the environment says where each
-- thread sends to, where that is not one place for all.

local BODY = '{"tool":"append_row","arguments":{"table":"orders","row":{"customer":"c-20817","items":'
    .. '[{"sku":"A-1093","count":2},{"sku":"B-7715","count":1}],"note":"leave at the door",'
    .. '"total":"148.20","currency":"EUR"}},"agent":"planner-4","step":17}'

local threads = {}
local ports = {}
for port in (os.getenv("PORTS") or ""):gmatch("%d+") do
    ports[#ports + 1] = port
end

function setup(thread)
    thread:set("number", #threads + 1)
    if ports[#threads + 1] then
        thread.addr = wrk.lookup("127.0.0.1", ports[#threads + 1])[1]
    end
    table.insert(threads, thread)
end

local option = {}
local head, before_key, tail, right
-- wrk calls request() once to look at it and sends nothing: that call takes number 0.
local sent, answered = -1, 0
-- Not local, since done() asks each thread for them.
wrong, refused, sample = 0, 0, ""

-- The put load. wrk tells response() neither connection nor request, so each answer is matched by
-- the resource that it names. A resource is in the pool or under way, never both: each has one
-- write at a time, always with the newest tag. Without a tag it is read first.
local pool, tags, made = {}, {}, 0

local function field(headers, lower, title)
    return headers[lower] or headers[title]
end

local function key(n, by)
    return option.prefix .. string.format("%d%011d", by or number, n)
end

local function keyed(method, target, more)
    return method .. " " .. target .. head .. more .. "Content-Type: application/json\r\nContent-Length: "
        .. #BODY .. "\r\nIdempotency-Key: "
end

local request_of = {}

function request_of.get()
    return before_key
end

function request_of.post()
    sent = sent + 1
    return before_key .. key(sent) .. tail
end

-- A stride, so that a large set of keys is not walked in the order it was made.
function request_of.replay()
    sent = (sent + 7919) % option.keys
    return before_key .. key(sent + 1, 1) .. tail
end

function request_of.put()
    sent = sent + 1
    if option.tags == "fixed" then
        return keyed("PUT", "/documents/" .. number .. "-" .. sent % 32, 'If-Match: "1"\r\n') .. key(sent) .. tail
    end
    local resource = table.remove(pool, 1)
    if not resource then
        made = made + 1
        resource = "/documents/" .. number .. "-" .. made
    end
    local tag = tags[resource]
    if not tag then
        return "GET " .. resource .. head .. "\r\n"
    end
    return keyed("PUT", resource, "If-Match: " .. tag .. "\r\n") .. key(sent) .. tail
end

local right_of = {}

function right_of.get()
    return true
end

function right_of.post(headers)
    return not field(headers, "idempotent-replayed", "Idempotent-Replayed")
end

function right_of.replay(headers)
    return field(headers, "idempotent-replayed", "Idempotent-Replayed") == "true"
end

function right_of.put(headers, good)
    if option.tags == "fixed" then
        return true
    end
    local resource = field(headers, "onceward-resource", "Onceward-Resource")
    if not resource then
        return false
    end
    local tag = nil
    if good then
        tag = field(headers, "onceward-version", "Onceward-Version")
        if not tag and not tags[resource] then
            tag = field(headers, "etag", "ETag")
        end
    end
    tags[resource] = tag
    table.insert(pool, resource)
    return tag ~= nil
end

function init(args)
    for _, arg in ipairs(args) do
        local name, value = arg:match("^(%w+)=(.*)$")
        option[name] = tonumber(value) or value
    end
    head = " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\nAuthorization: Bearer agent-4\r\n"
    tail = "\r\n\r\n" .. BODY
    if option.kind == "get" then
        before_key = "GET /plain/orders" .. head .. "\r\n"
    else
        before_key = keyed("POST", option.target or "/tool/append_row", "")
    end
    request = request_of[option.kind]
    right = right_of[option.kind]
end

-- Defined before init() runs, since wrk looks for them when it loads the script.
function request()
    return ""
end

local ffi = require("ffi")
ffi.cdef("int getpid(void); int kill(int pid, int signal);")

-- wrk's main thread sleeps for the whole time; an interrupt is what ends it early.
local function stop()
    wrk.thread:stop()
    ffi.C.kill(ffi.C.getpid(), 2)
end

function response(status, headers, body)
    answered = answered + 1
    local good = (status == 200 or status == 201) and #body == option.answer
    -- The put load must see every answer, to know which resource is free again.
    local fits = right(headers, good)
    if status == 503 and option.full == "ok" then
        refused = refused + 1
    elseif not (good and fits) then
        wrong = wrong + 1
        if wrong == 1 then
            sample = status .. " " .. body:sub(1, 300)
        end
    end
    if answered == option.limit then
        stop()
    end
end

local function quoted(text)
    return '"' .. text:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

function done(summary, latency)
    local wrong, refused, sample = 0, 0, ""
    for _, thread in ipairs(threads) do
        wrong = wrong + thread:get("wrong")
        refused = refused + thread:get("refused")
        if sample == "" then
            sample = thread:get("sample")
        end
    end
    local errors = summary.errors
    io.write(string.format(
        'RESULT {"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"wrong":%d,"refused":%d,"broken":%d,"sample":%s}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), wrong, refused,
        errors.connect + errors.read + errors.write + errors.timeout, quoted(sample)))
end
