#pragma once
// Filters that make texts; those of lists, dicts and numbers stand in filters.cpp, with the table of all.
#include "text/jinja/strings.h"

namespace tessera::jinja {
class Call;
}

namespace tessera::jinja::filters {

Value title(Call& call);
Value trim(Call& call);
Value replace(Call& call);
Value string(Call& call);
Value safe(Call& call);
Value escape(Call& call);
Value center(Call& call);
Value indent(Call& call);
Value truncate(Call& call);
Value format(Call& call);
Value wordcount(Call& call);
Value tojson(Call& call);

}  // namespace tessera::jinja::filters
