# cmake -DFOLDER=... -DOUTPUT=... -P page_files.cmake: writes the files of FOLDER, each also gzipped, as page_files() of apps/server/page.h.
# chat.html is at /, and NAME.html at /NAME.
set(type_html "text/html; charset=utf-8")
set(type_css "text/css; charset=utf-8")
set(type_js "text/javascript; charset=utf-8")
set(arrays "")
set(entries "")

function(add_array name hex)
  string(LENGTH "${hex}" size)
  math(EXPR size "${size} / 2")
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  set(arrays "${arrays}constexpr unsigned char ${name}[${size}] = {${bytes}};\n" PARENT_SCOPE)
endfunction()

file(GLOB files ${FOLDER}/*)
foreach(file ${files})
  get_filename_component(name ${file} NAME)
  string(REGEX REPLACE ".*\\." "" extension ${name})
  string(REPLACE "." "_" variable ${name})
  string(REGEX REPLACE "^(chat)?(.*)\\.html$" "\\2" path ${name})
  if(NOT DEFINED type_${extension})
    message(FATAL_ERROR "${file}: what type has it?")
  endif()
  file(ARCHIVE_CREATE OUTPUT ${OUTPUT}.gz PATHS ${file} FORMAT raw COMPRESSION GZip COMPRESSION_LEVEL 9)
  file(READ ${file} hex HEX)
  file(READ ${OUTPUT}.gz gzipped HEX)
  string(SUBSTRING "${gzipped}" 0 8 begin)
  string(SUBSTRING "${gzipped}" 16 -1 end)
  set(gzipped "${begin}00000000${end}")  # no time: equal sources make equal programs
  file(SHA256 ${file} tag)
  string(SUBSTRING ${tag} 0 32 tag)
  add_array(${variable} "${hex}")
  add_array(${variable}_gz "${gzipped}")
  string(APPEND entries "    {\"/${path}\", \"${type_${extension}}\", \"${tag}\", view(${variable}), view(${variable}_gz)},\n")
endforeach()
file(REMOVE ${OUTPUT}.gz)
file(WRITE ${OUTPUT} "#include <cstddef>

#include \"server/page.h\"

namespace tessera::server {
namespace {

${arrays}
template <size_t size>
std::string_view view(const unsigned char (&bytes)[size]) {
  return {reinterpret_cast<const char*>(bytes), size};
}

}  // namespace

std::span<const PageFile> page_files() {
  static const PageFile kFiles[] = {
${entries}  };
  return kFiles;
}

}  // namespace tessera::server
")
