-- Settles a request with what it really used: gives back what it had reserved beyond that, ends
-- its lease, and adds to the ledger of the day it was admitted on. Running it again changes nothing.
--
-- Only what has not drained yet is refunded: tokens that drained have already let others in, and
-- giving them back once more would let a window pass its bound. Reservations drain first in, first
-- out; of one that ends at position p, p - d is still in the meter. A refund counts as drained, so
-- positions behind it stay right, and those before it can only err towards less.
--
-- KEYS  tokens, leases, admitted, usage, gone
-- ARGV  request id, tokens used, record's life in ms, ledger's life in s, then name and amount of
--       each entry of the ledger
local id, used, life, kept = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

if redis.call('EXISTS', KEYS[5]) == 1 then return 'gone' end
local record = redis.call('HGET', KEYS[3], id)
if record == 'settled' then return 'settled' end
redis.call('ZREM', KEYS[2], id)

local day = math.floor(redis.call('TIME')[1] / 86400)
if record then
  local position, reserved, admitted = string.match(record, '^(%S+) (%S+) (%S+)$')
  day = admitted
  local back = tonumber(reserved) - used
  local m = redis.call('HMGET', KEYS[1], 'u', 'd')
  if m[1] and tonumber(reserved) > 0 and back ~= 0 then
    local u, d = tonumber(m[1]), tonumber(m[2])
    if back > 0 then
      back = math.min(back, math.max(0, tonumber(position) - d), u)
      d = d + back
    end
    redis.call('HSET', KEYS[1], 'u', string.format('%.17g', u - back),
      'd', string.format('%.17g', d))
  end
end

for i = 5, #ARGV, 2 do
  local amount = tonumber(ARGV[i + 1])
  if amount > 0 then
    local field = day .. ':' .. ARGV[i]
    if redis.call('HINCRBY', KEYS[4], field, amount) == amount then
      redis.call('HEXPIRE', KEYS[4], kept, 'FIELDS', 1, field)
    end
  end
end
redis.call('HSET', KEYS[3], id, 'settled')
redis.call('HPEXPIRE', KEYS[3], life, 'FIELDS', 1, id)
return 'settled'
