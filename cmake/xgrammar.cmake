# The library behind src/grammar: xgrammar's sources as scripts/setup unpacks them, compiled here. It has no warnings of ours, and its own
# flags (-O3 -flto=auto) are not taken: an archive of LTO objects takes a minute to link.
set(xgrammar_version 0.2.9)
set(cache_folder $ENV{TESSERA_CACHE})
if(NOT cache_folder)
  set(cache_folder $ENV{XDG_CACHE_HOME})
  if(NOT cache_folder)
    set(cache_folder $ENV{HOME}/.cache)
  endif()
  string(APPEND cache_folder /tessera)
endif()
set(TESSERA_XGRAMMAR_DIR ${cache_folder}/sources/xgrammar-${xgrammar_version} CACHE PATH "xgrammar's sources")
if(NOT EXISTS ${TESSERA_XGRAMMAR_DIR}/include/xgrammar/xgrammar.h)
  message(FATAL_ERROR "xgrammar ${xgrammar_version}'s sources are not in ${TESSERA_XGRAMMAR_DIR}: run scripts/setup demo, or name their folder by -DTESSERA_XGRAMMAR_DIR=...")
endif()

file(GLOB_RECURSE xgrammar_sources CONFIGURE_DEPENDS ${TESSERA_XGRAMMAR_DIR}/cpp/*.cc)
list(FILTER xgrammar_sources EXCLUDE REGEX /tvm_ffi/)  # Python's
# Strings with a minLength or maxLength would let raw control characters pass, which JSON has not: that class is completed as all others are.
set(converter ${PROJECT_BINARY_DIR}/xgrammar/json_schema_converter.cc)
file(READ ${TESSERA_XGRAMMAR_DIR}/cpp/json_schema_converter.cc text)
string(REPLACE [[AddCharacterClass({{'"', '"'}, {'\\', '\\'}, {'\r', '\r'}, {'\n', '\n'}}, true)]] [[AddCharacterClass({{0, 0x1f}, {'"', '"'}, {'\\', '\\'}}, true)]] changed "${text}")
if(changed STREQUAL text)
  message(FATAL_ERROR "xgrammar's json_schema_converter.cc in ${TESSERA_XGRAMMAR_DIR} is not that of ${xgrammar_version}: run scripts/setup demo")
endif()
file(CONFIGURE OUTPUT ${converter} CONTENT "@changed@" @ONLY)  # written only where it differs
list(REMOVE_ITEM xgrammar_sources ${TESSERA_XGRAMMAR_DIR}/cpp/json_schema_converter.cc)
list(APPEND xgrammar_sources ${converter})
add_library(xgrammar STATIC EXCLUDE_FROM_ALL ${xgrammar_sources})
target_include_directories(xgrammar SYSTEM PUBLIC ${TESSERA_XGRAMMAR_DIR}/include ${TESSERA_XGRAMMAR_DIR}/3rdparty/dlpack/include
                           PRIVATE ${TESSERA_XGRAMMAR_DIR}/cpp ${TESSERA_XGRAMMAR_DIR}/3rdparty/picojson)
# What it would print and what it throws come to functions of ours: src/grammar/xgrammar_log.cpp.
target_compile_definitions(xgrammar PRIVATE XGRAMMAR_LOG_CUSTOMIZE=1 XGRAMMAR_ENABLE_CPPTRACE=0 XGRAMMAR_ENABLE_INTERNAL_CHECK=0)
target_compile_options(xgrammar PRIVATE -w $<$<CONFIG:Release>:-O2>)
target_link_libraries(xgrammar PUBLIC Threads::Threads)

# Its own headers too, for the one place that looks inside.
add_library(xgrammar_internals INTERFACE)
target_include_directories(xgrammar_internals SYSTEM INTERFACE ${TESSERA_XGRAMMAR_DIR}/cpp ${TESSERA_XGRAMMAR_DIR}/3rdparty/picojson)
target_compile_definitions(xgrammar_internals INTERFACE $<TARGET_PROPERTY:xgrammar,COMPILE_DEFINITIONS>)
target_link_libraries(xgrammar_internals INTERFACE xgrammar)
