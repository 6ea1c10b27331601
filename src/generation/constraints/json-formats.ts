const YEAR_DAY =
  "(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8])";
const LEAP_YEAR = "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)";
const DATE = `(?:\\d{4}-(?:${YEAR_DAY})|${LEAP_YEAR}-02-29)`;
const HOUR_MINUTE = "(?:[01]\\d|2[0-3]):[0-5]\\d";
const TIME = `${HOUR_MINUTE}:[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-]${HOUR_MINUTE})`;
const LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
const HOST = `${LABEL}(?:\\.${LABEL}){0,8}`;
const BYTE = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}";
const DURATION_TIME = "T(?:\\d{1,9}H(?:\\d{1,9}M(?:\\d{1,9}S)?)?|\\d{1,9}M(?:\\d{1,9}S)?|\\d{1,9}S)";
const DURATION_DATE = "(?:\\d{1,9}Y(?:\\d{1,9}M(?:\\d{1,9}D)?)?|\\d{1,9}M(?:\\d{1,9}D)?|\\d{1,9}D)";

/**
 * The formats of JSON Schema that a pattern can say (RFC 3339, 4122, 5321, 1123, 3986). Each text has the format; of
 * addresses and URIs only the usual forms are written.
 */
export const FORMATS: ReadonlyMap<string, string> = new Map([
  ["date", DATE],
  ["time", TIME],
  ["date-time", `${DATE}T${TIME}`],
  ["duration", `P(?:${DURATION_DATE}(?:${DURATION_TIME})?|${DURATION_TIME}|\\d{1,9}W)`],
  ["email", `${ATOM}(?:\\.${ATOM}){0,2}@${LABEL}(?:\\.${LABEL}){1,4}`],
  ["hostname", HOST],
  ["ipv4", `${BYTE}(?:\\.${BYTE}){3}`],
  [
    "uri",
    `https?://${HOST}(?::[1-9]\\d{0,3})?(?:/[A-Za-z0-9_.~!$&'()*+,;=:@-]*)*(?:\\?[A-Za-z0-9_.~!$&'()*+,;=:@/?-]*)?(?:#[A-Za-z0-9_.~-]*)?`,
  ],
  ["uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"],
]);
