# Tcl: its event loop and timers, whose notifier is a thread of its own, coroutines, dictionaries, regular expressions,
# errors, traces, strings that grow.
set scale [expr {[info exists env(ZAP_JOB_SCALE)] ? $env(ZAP_JOB_SCALE) : 1}]
set rounds [expr {int(180 * $scale)}]
set state 4711
set total 7
set caught 0
set seen 0
set words [dict create]

proc next_number {} {
    global state
    set state [expr {($state * 1103515245 + 12345) & 0x7fffffff}]
    return [expr {$state >> 8}]
}

proc mix {text} {
    global total
    set total [expr {($total * 31 + [zlib crc32 $text]) % 1000000007}]
}

proc generate {} {
    set given [yield]
    while 1 {
        set given [yield [expr {($given * 17 + [next_number]) % 65521}]]
    }
}
coroutine generator generate

trace add variable watched write {apply {{name index operation} {
    global seen
    incr seen
}}}

proc round {number} {
    global rounds total caught seen words watched finished
    set parts {}
    for {set i 0} {$i < 4000} {incr i} {
        lappend parts [format %x [next_number]]
    }
    set text [join $parts " "]
    foreach {whole first rest} [regexp -all -inline {\m([a-f])([0-9a-f]+)\M} $text] {
        dict incr words $first [string length $rest]
        set watched $rest
    }
    mix [string map {a A b B} $text]
    mix [regsub -all {(\d)(\d)} $text {\2\1}]
    mix [lrange [lsort -dictionary $parts] 0 100]
    set value $number
    for {set i 0} {$i < 3000} {incr i} {
        set value [generator $value]
    }
    mix $value
    if {[catch {error "thrown in round $number" {} [list JOB $number]} message options]} {
        incr caught
        mix "$message [dict get $options -errorcode]"
    }
    if {$number % 20 == 0} {
        puts "round $number: $total, $seen words"
        flush stdout
    }
    if {$number < $rounds} {
        after 1 [list round [expr {$number + 1}]]
    } else {
        set finished 1
    }
}

after 0 {round 1}
vwait finished
mix [lsort -stride 2 $words]
puts "result: $total, $caught caught, $seen words"
exit 28
