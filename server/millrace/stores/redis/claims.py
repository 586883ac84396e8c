"""The scripts that count accounts together in Redis.

An account is a hash. Each data_dir has in it what it has spent, by UTC day and month, and each process what it claims:
what its requests reserve, and what it has ahead of them. A process writes what it has, never what is to be added, so a
claim that comes twice, or after Redis was emptied, changes nothing that is right. A claim that grows is granted as far
as the limits go, with the claims of all others subtracted. Dollars are whole nanodollars.

Where there is a ledger of all replicas, an account that Redis does not know gets what that knows of each data_dir: who
has died since Redis was emptied has told nothing here.

Who has not been heard of for `LEASE_S` is dead. What its requests had reserved counts as spent, until its data_dir has
a process again, whose ledger knows. Of a worker that dies beside others it stays spent for the day: theirs do not.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from millrace.stores.accounts import Today
from millrace.types.budget import AccountName

LEASE_S = 15
MINUTE_S = 61  # as the accounts count it, in whole seconds
KEPT_S = 35 * 86_400
PLENTY = 0.5  # of a budget: as long as more is left, who has asked within the last minute has some ahead

# The field of an account that has what the ledger knows. It looks like spending of a month that is never over.
READ = "s:999999999:"

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# Keys: all replicas, by when they were heard of. Returns whether this one was known, and how many live.
BEAT = f"""
{_NOW}
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - {KEPT_S}000)
return {{known and 1 or 0, redis.call('ZCOUNT', KEYS[1], now - {LEASE_S}000, '+inf')}}
"""

# Keys: the account, all replicas.
CLAIM = f"""
{_NOW}
local spool, day, month = ARGV[1], ARGV[3], ARGV[4]
local own_name = spool .. '/' .. ARGV[2]
local given = {{}}
for i = 5, #ARGV do given[i - 4] = tonumber(ARGV[i]) end
local settled, known_day, known_month = given[1], given[2], given[3]
local limit_day, limit_month, cost, more_cost = given[4], given[5], given[6], given[7]

local lives, count = {{}}, 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], now - {LEASE_S}000, '+inf')) do
    lives[name] = true
    count = count + 1
end

local own, own_day, own_month, is_read = nil, 0, 0, 0
local dead_day, dead_month = 0, 0 -- reserved by dead processes of this data_dir
local spent_day, spent_month = 0, 0 -- by others
local reserved, requests, tokens, in_flight = 0, 0, 0, 0
local function forget(field) redis.call('HDEL', KEYS[1], field) end
local rows = redis.call('HGETALL', KEYS[1])
for i = 1, #rows, 2 do
    local field, value = rows[i], rows[i + 1]
    local kind = field:sub(1, 1)
    if kind == 'c' then
        local name = field:sub(3)
        local claim = cmsgpack.unpack(value)
        local is_recent = now - claim[7] < {MINUTE_S}000
        if name == own_name then
            own = claim
        elseif lives[name] then
            reserved = reserved + claim[2] + claim[3]
            in_flight = in_flight + claim[6]
        elseif claim[9] < tonumber(month) or (claim[2] == 0 and not is_recent) then
            forget(field)
        elseif name:match('^[^/]*') == spool then
            if claim[8] == tonumber(day) then dead_day = dead_day + claim[2] end
            dead_month = dead_month + claim[2]
            forget(field)
        else
            if claim[8] == tonumber(day) then spent_day = spent_day + claim[2] end
            spent_month = spent_month + claim[2]
        end
        if name ~= own_name and is_recent then
            requests = requests + claim[4]
            tokens = tokens + claim[5]
        end
    elseif field == '{READ}' then
        is_read = 1
    else -- what a data_dir has spent
        local period, name = field:match('^.:(%d+):(.*)$')
        local is_own, number = name == spool, tonumber(value)
        if kind == 'd' and period == day then
            if is_own then own_day = number else spent_day = spent_day + number end
        elseif kind == 'm' and period == month then
            if is_own then own_month = number else spent_month = spent_month + number end
        elseif tonumber(period) < tonumber(kind == 'd' and day or month) - 1 then
            forget(field)
        end
    end
end

-- What was sent before the last claim, and comes after it, changes nothing: whoever sent it does not wait for it.
if own and own[10] > given[16] then return {{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}} end

if own then -- this process has not read what the others of its data_dir had open when they died
    own_day, own_month = own_day + dead_day, own_month + dead_month
end

local more = own and math.max(0, settled - own[1]) or 0 -- of the day and month of the last claim, as far as is known
own_day = math.max(own_day + (own and own[8] == tonumber(day) and more or 0), known_day)
own_month = math.max(own_month + (own and own[9] == tonumber(month) and more or 0), known_month)
if own_month > 0 then
    redis.call('HSET', KEYS[1], 'd:' .. day .. ':' .. spool, own_day, 'm:' .. month .. ':' .. spool, own_month)
end
spent_day, spent_month = spent_day + own_day, spent_month + own_month

local left = nil
if limit_day then left = limit_day - spent_day - reserved end
if limit_month then left = math.min(left or math.huge, limit_month - spent_month - reserved) end
local booked, ahead = 0, 0
if left then
    booked = math.max(cost, math.min(cost + more_cost, left))
    local is_plenty = left > {PLENTY} * math.min(limit_day or math.huge, limit_month or math.huge)
    if booked > 0 or (is_plenty and given[9] > 0) then
        ahead = math.max(0, math.floor((left - booked) / (2 * math.max(1, count))))
    end
end
local function granted(used, more, limit, by_others)
    if limit then return math.max(used, math.min(used + more, limit - by_others)) end
    return used + more
end
local claim = {{
    settled, booked, ahead,
    granted(given[9], given[10], given[8], requests),
    granted(given[12], given[13], given[11], tokens),
    granted(given[15], given[10], given[14], in_flight),
    now, tonumber(day), tonumber(month), given[16],
}}
redis.call('HSET', KEYS[1], 'c:' .. own_name, cmsgpack.pack(claim))
redis.call('EXPIRE', KEYS[1], {KEPT_S})
return {{
    own and 1 or 0, spent_day, spent_month, reserved, booked + ahead, requests, tokens, in_flight,
    own_day, own_month, is_read,
}}
"""

# Keys: the account. Puts what data_dirs have spent, unless more is known.
SPENT = f"""
local day, month = ARGV[1], ARGV[2]
for i = 3, #ARGV, 3 do
    for kind, given in pairs({{['d:' .. day] = ARGV[i + 1], ['m:' .. month] = ARGV[i + 2]}}) do
        local field = kind .. ':' .. ARGV[i]
        if tonumber(given) > tonumber(redis.call('HGET', KEYS[1], field) or 0) then
            redis.call('HSET', KEYS[1], field, given)
        end
    end
end
redis.call('HSET', KEYS[1], '{READ}', 1)
redis.call('EXPIRE', KEYS[1], {KEPT_S})
"""


# By account and data_dir, what was spent on the day and in the month, as the ledger of all replicas has it. Raises
# `TimeoutError` if that is not known.
Spools = Mapping[AccountName, Mapping[str, tuple[int, int]]]
ReadLedger = Callable[[Collection[AccountName], Today], Awaitable[Spools]]


class Claim(NamedTuple):
    """What a process has of an account and asks for. Of limits, None is none."""

    settled: int  # by this process, of all time; nanodollars, as all dollars here
    known_day: int  # what its data_dir has spent, as it knows
    known_month: int
    limit_day: int | None
    limit_month: int | None
    cost: int  # reserved
    more_cost: int  # asked for
    limit_requests: int | None
    requests: int
    more_requests: int
    limit_tokens: int | None
    tokens: int
    more_tokens: int
    limit_in_flight: int | None
    in_flight: int
    number: int  # in the order of this process

    @property
    def arguments(self) -> list[str | int]:
        """The same for the script."""
        return ["" if value is None else value for value in self]

    @property
    def is_idle(self) -> bool:
        """Whether it claims nothing."""
        return not (self.cost or self.more_cost or self.requests or self.more_requests or self.tokens or self.in_flight)


class Granted(NamedTuple):
    """What the script says."""

    was_known: int  # 0: Redis has no earlier claim of this process
    spent_day: int  # by all data_dirs
    spent_month: int
    reserved: int  # by the other replicas, used or ahead
    granted: int  # to this one
    requests: int  # of the other replicas
    tokens: int
    in_flight: int
    own_day: int  # spent by this data_dir
    own_month: int
    is_read: int  # 0: what the ledger knows is not there


def granted(reply: Sequence[int]) -> Granted:
    """Read the reply. A later version may say more."""
    return Granted(*reply[: len(Granted._fields)])
