"""What no filter of Envoy does, in Lua, at the edge.

- Cookies of other applications stop here.
- HEAD of a well-known document is answered as GET is, without the body: the transcoder would send it, and the client
  take it for the next answer.
- Messages of a Connect client may be JSON. grpc keeps the content type to itself, so the process is told by a header.
  And Envoy's bridge calls every answer protobuf, and names the details of an error by URL, which Connect clients don't
  look for.
- An answer about unreadable JSON quotes nothing of it: Envoy's transcoder says what it could not read by repeating it,
  passwords and tokens with it. Its words come to this script alone, as the body of an answer marked `UNREAD`; the field
  is taken out of them, and the client gets one of the fixed answers below.
"""

import json

from google.protobuf import json_format

from mesh.errors import InvalidArgument, field_invalid
from mesh.render.envoy.local_reply import UNREAD, UNREADABLE
from mesh.render.envoy.resource import Resource, extension
from mesh.rpc.codec import HEADER as CODEC
from mesh.rpc.errors import to_status
from mesh.rpc.refresh_cookie import NAME

_FIELD = "$"
_LONGEST_FIELD = 100
"""The name of an unknown query parameter is the client's."""
_UNKNOWN_FIELD = field_invalid(_FIELD, "does not exist")
_WRONG_TYPE = field_invalid(_FIELD, "the value is not of the field's type")

_SCRIPT = """\
local ANSWERS = {
  unreadable = [==[UNREADABLE]==],
  unknown_field = [==[UNKNOWN_FIELD]==],
  wrong_type = [==[WRONG_TYPE]==],
}

local function mark(handle, key, value)
  handle:streamInfo():dynamicMetadata():set("authmesh", key, value)
end

local function keep_our_cookie(headers)
  local kept, count = {}, headers:getNumValues("cookie")
  if count == 0 then return end
  for index = 0, count - 1 do
    for pair in string.gmatch(headers:getAtIndex("cookie", index), "[^;]+") do
      local value = string.match(pair, "^%s*COOKIE=([%w_.-]+)%s*$")
      if value then kept[#kept + 1] = "PLAIN_COOKIE=" .. value end
    end
  end
  headers:remove("cookie")
  if #kept > 0 then headers:add("cookie", table.concat(kept, "; ")) end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  keep_our_cookie(headers)
  if headers:get("connect-protocol-version") then
    local content = headers:get("content-type") or ""
    local is_json = string.find(content, "^application/json") or string.find(content, "^application/connect%+json")
    if is_json then headers:add("CODEC", "json") end
    mark(handle, "connect", is_json and "json" or "proto")
  elseif headers:get(":method") == "HEAD" and string.find(headers:get(":path"), "^/%.well%-known/") then
    headers:replace(":method", "GET")
    handle:clearRouteCache()
    mark(handle, "head", true)
  end
end

local function answer(text)
  local field = string.match(text, '^Could not find field .-([%a_][%w_.]*)')
  if field then return ANSWERS.unknown_field, field end
  field = string.match(text, '^([%a_][%w_.]*): ')
    or string.match(text, '^: invalid value Starting an? %a+ on a scalar field for type ([%a_][%w_.]*)')
  if field then return ANSWERS.wrong_type, field end
  return ANSWERS.unreadable, ''
end

local function without_body(handle)
  local length = handle:headers():get("content-length")
  handle:body():setBytes("")
  if length then handle:headers():replace("content-length", length) end
end

local function by_name(details)
  return (string.gsub(details, '"type":"type%.googleapis%.com/', '"type":"'))
end

-- The end of a stream is a frame of its own: 2, its length in four bytes, and JSON.
local function end_by_name(chunk)
  local text = chunk:getBytes(0, chunk:length())
  local details = string.match(text, '^\\002....({.*})$')
  local named = details and by_name(details)
  if not named or named == details then return end
  local length = #named
  chunk:setBytes(string.char(2, 0, 0, math.floor(length / 256), length % 256) .. named)
end

local function as_connect(handle, codec)
  local headers = handle:headers()
  local content = headers:get("content-type") or ""
  if headers:get(":status") ~= "200" then
    local body = handle:body()
    body:setBytes(by_name(body:getBytes(0, body:length())))
  elseif content == "application/proto" then
    if codec == "json" then headers:replace("content-type", "application/json") end
  else
    if codec == "json" then headers:replace("content-type", "application/connect+json") end
    for chunk in handle:bodyChunks() do end_by_name(chunk) end
  end
end

function envoy_on_response(handle)
  local marks = handle:streamInfo():dynamicMetadata():get("authmesh")
  if marks then
    if marks["head"] then return without_body(handle) end
    if marks["connect"] then return as_connect(handle, marks["connect"]) end
  end
  if handle:headers():get("MARK") == nil then return end
  handle:headers():remove("MARK")
  local body = handle:body()
  local text, field = answer(body:getBytes(0, math.min(body:length(), 1000)))
  body:setBytes((string.gsub(text, '%$', string.sub(field, 1, LONGEST))))
end
"""


def edge_script() -> Resource:
    """The filter. It comes before whatever reads a cookie, and sees every answer last."""
    words = {
        "UNREADABLE": _json(UNREADABLE),
        "UNKNOWN_FIELD": _json(_UNKNOWN_FIELD),
        "WRONG_TYPE": _json(_WRONG_TYPE),
        "PLAIN_COOKIE": NAME,
        # A hyphen is an operator of Lua's patterns.
        "COOKIE": NAME.replace("-", "%-"),
        "CODEC": CODEC,
        "MARK": UNREAD,
        "LONGEST": str(_LONGEST_FIELD),
    }
    script = _SCRIPT
    for word, text in words.items():
        script = script.replace(word, text)
    return extension("envoy.filters.http.lua", "filters.http.lua.v3.Lua", default_source_code={"inline_string": script})


def _json(refusal: InvalidArgument) -> str:
    return json.dumps(json.loads(json_format.MessageToJson(to_status(refusal))))
