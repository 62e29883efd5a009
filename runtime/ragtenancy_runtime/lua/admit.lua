-- Admits one request of a tenant, or says why not. A denied request takes nothing.
--
-- A rate limit is a meter: `u` units used, leaking at the limit's rate. A request of cost c is
-- admitted when u + c does not pass the burst, so within any window of t seconds at most
-- burst + rate * t is admitted. The meter holds units used, not units left: a changed limit is in
-- force at the next request.
--
-- The token meter also counts `d`, all that ever drained from it. A request's reservation ends at
-- position d + u; settle.lua refunds only what has not drained yet (see there).
--
-- KEYS  requests, tokens, leases, admitted, epoch, writing, gone
-- ARGV  request id, requests a minute, burst, tokens a minute, concurrent requests (-1: no limit),
--       cost in tokens, lease in ms (0: takes no lease), record's life in ms, epoch to start with
-- Gives {status, day, epoch, requests left, us until full, tokens left, us until full, us to wait}
local id, rpm, burst, tpm = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local concurrent, cost = tonumber(ARGV[5]), tonumber(ARGV[6])
local lease, life = tonumber(ARGV[7]), tonumber(ARGV[8])

if redis.call('EXISTS', KEYS[7]) == 1 then return {'gone'} end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local day = math.floor(time[1] / 86400)
local epoch = redis.call('GET', KEYS[5])
if not epoch then
  epoch = ARGV[9]
  redis.call('SET', KEYS[5], epoch)
end

-- While a document is being switched nobody knows which version an answer comes from: its epoch is
-- then '', under which nothing is cached. A writer that died while switching ends here: its change
-- is announced for it.
if redis.call('HLEN', KEYS[6]) > 0 then
  local claims = redis.call('HGETALL', KEYS[6])
  local switching = false
  for i = 1, #claims, 2 do
    local deadline, flag = string.match(claims[i + 1], '^%S+ (%S+) (%S+)$')
    if tonumber(deadline) * 1000 >= now then
      switching = switching or flag == '1'
    else
      redis.call('HDEL', KEYS[6], claims[i])
      if flag == '1' then
        epoch = ARGV[9]
        redis.call('SET', KEYS[5], epoch)
      end
    end
  end
  if switching then epoch = '' end
end

local MINUTE = 60000000

local function meter(key, per_minute)
  local m = redis.call('HMGET', key, 'u', 't', 'd')
  local u, t, d = tonumber(m[1] or 0), tonumber(m[2] or now), tonumber(m[3] or 0)
  local drained = math.min(u, math.max(0, now - t) * per_minute / MINUTE)
  return {u = u - drained, t = math.max(now, t), d = d + drained}
end

local function number(x) return string.format('%.17g', x) end

local function save(key, m)
  redis.call('HSET', key, 'u', number(m.u), 't', number(m.t), 'd', number(m.d))
end

local function left(m, limit) return math.max(0, math.floor(limit - m.u)) end
local function us(m, per_minute) return math.ceil(m.u * MINUTE / per_minute) end

local requests = rpm >= 0 and meter(KEYS[1], rpm)
local tokens = tpm >= 0 and meter(KEYS[2], tpm)

local function answer(status, wait)
  return {status, day, epoch,
    requests and left(requests, burst) or -1, requests and us(requests, rpm) or -1,
    tokens and left(tokens, tpm) or -1, tokens and us(tokens, tpm) or -1,
    math.ceil(wait or 0)}
end

-- The same id again is the same request: its first run was counted, and its reply was lost.
if redis.call('HEXISTS', KEYS[4], id) == 1 then return answer('admitted') end

if tokens and cost > tpm then return answer('too_large') end
if requests and requests.u + 1 > burst then
  return answer('requests', (requests.u + 1 - burst) * MINUTE / rpm)
end
if tokens and tokens.u + cost > tpm then
  return answer('tokens', (tokens.u + cost - tpm) * MINUTE / tpm)
end
if lease > 0 and concurrent >= 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now / 1000)
  if redis.call('ZCARD', KEYS[3]) >= concurrent then return answer('concurrency', 1000000) end
end

if requests then
  requests.u = requests.u + 1
  save(KEYS[1], requests)
end
local position = 0
if tokens then
  tokens.u = tokens.u + cost
  save(KEYS[2], tokens)
  position = tokens.d + tokens.u
end
if lease > 0 then
  redis.call('ZADD', KEYS[3], number(math.floor(now / 1000) + lease), id)
end
redis.call('HSET', KEYS[4], id, number(position) .. ' ' .. (tokens and cost or 0) .. ' ' .. day)
redis.call('HPEXPIRE', KEYS[4], life, 'FIELDS', 1, id)
return answer('admitted')
