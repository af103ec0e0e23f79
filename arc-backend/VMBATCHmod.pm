package VMBATCHmod;

# A-REX's information provider: hands what CEinfo.pl wants to know to `vmbatch info`, and its answer back. It never
# dies and never waits for ever: an exception here would make all information of the CE disappear.

use strict;
use warnings;
use Cwd ();
use File::Basename ();
use POSIX ();
use Time::HiRes ();

require Exporter;
our @ISA       = ('Exporter');
our @EXPORT_OK = ('get_lrms_info', 'get_lrms_options_schema');

# The program. If it is not there, it is looked for beside this file's folder, links resolved.
our $vmbatch = '/usr/lib/vmbatch/vmbatch';

# Seconds for the whole answer. The program itself gives TORQUE two minutes.
our $deadline = 150;

# More than a hundred thousand jobs need; an answer beyond it is none.
our $most_bytes = 256 * 1024 * 1024;

sub get_lrms_options_schema {
    return {
        'queues' => { '*' => { 'users' => [''] } },
        'jobs'   => [''],
    };
}

sub get_lrms_info {
    my ($options) = @_;
    $options = map_of($options);
    my $answer = eval { ask($options) };
    if (ref $answer ne 'HASH') {
        complain(reason($@, 'the answer is no JSON object'));
        $answer = {};
    }
    complain($_) for texts($answer->{warnings}), texts($answer->{problems});
    mention($_)  for texts($answer->{notes});
    my $info = eval { assemble($options, $answer) };
    if (ref $info ne 'HASH') {
        complain('the answer cannot be used: ' . reason($@, 'unknown reason'));
        $info = assemble($options, {});
    }
    eval { advertise($options, $answer); 1 } or complain(reason($@, 'unknown reason'));
    return $info;
}

# The document of `vmbatch info`; dies with a reason.
sub ask {
    my ($options) = @_;
    my %queues;
    for my $name (keys %{ map_of($options->{queues}) }) {
        my $queue = map_of($options->{queues}{$name});
        my $total = $queue->{totalcpus};
        $queues{$name} = { users => [texts($queue->{users})] };
        $queues{$name}{totalcpus} = "$total" if defined $total and not ref $total;
    }
    my $request = json()->encode({ queues => \%queues, jobs => [texts($options->{jobs})] });
    return json()->decode(run($request, find_program(), 'info', '--config', configuration_file(), '--request'));
}

sub find_program {
    my $here = File::Basename::dirname(Cwd::realpath(__FILE__) || __FILE__);
    my @candidates = ($vmbatch, "$here/../vmbatch", "$here/../dist/vmbatch");
    for my $candidate (@candidates) {
        return $candidate if -f $candidate && -x _;
    }
    die 'there is no vmbatch program (looked at ' . join(', ', @candidates) . "); install vmbatch on the CE\n";
}

# CEinfo.pl keeps the value of its --config there.
sub configuration_file {
    no strict 'refs';
    no warnings 'once';
    return ${'CEInfo::configfile'} || ${'main::configfile'} || $ENV{ARC_CONFIG} || '/etc/arc.conf';
}

# JSON::XS comes with ARC and is much quicker; JSON::PP is part of Perl.
sub json {
    for my $module ('JSON::XS', 'JSON::PP') {
        return $module->new->utf8->canonical if eval "require $module; 1";
    }
    die "neither JSON::XS nor JSON::PP is installed\n";
}

# Runs a program with $input as its stdin; its stdout. Dies with what it said if it fails or does not end in time.
sub run {
    my ($input, @command) = @_;
    local $SIG{CHLD} = 'DEFAULT';
    # A file, not a pipe: nobody has to write while the answer is read.
    open(my $stdin, '+>', undef) or die "no temporary file: $!\n";
    binmode $stdin;
    (print {$stdin} $input and $stdin->flush and seek($stdin, 0, 0)) or die "cannot write a temporary file: $!\n";
    pipe(my $out, my $out_end) or die "pipe: $!\n";
    pipe(my $err, my $err_end) or die "pipe: $!\n";
    my $pid = fork();
    die "fork: $!\n" unless defined $pid;
    if ($pid == 0) {
        # A process group of its own: whatever the program started ends with it.
        POSIX::setpgid(0, 0);
        delete @ENV{qw(NODE_EXTRA_CA_CERTS NODE_OPTIONS)};
        POSIX::dup2(fileno $stdin,   0);
        POSIX::dup2(fileno $out_end, 1);
        POSIX::dup2(fileno $err_end, 2);
        no warnings 'exec';
        exec { $command[0] } @command;
        POSIX::write(2, 'cannot be started', 17);
        POSIX::_exit(127);
    }
    POSIX::setpgid($pid, $pid);
    close $out_end;
    close $err_end;
    my ($status, $stdout, $stderr) = follow($pid, $out, $err);
    return $stdout if defined $status and $status == 0;
    my ($said) = $stderr =~ /(\S[^\n]*)\s*\z/;
    $said = $said ? ": $said" : '';
    die "$command[0] did not answer within $deadline s$said\n" unless defined $status;
    my $how = $status & 127 ? 'died of signal ' . ($status & 127) : 'exited with ' . ($status >> 8);
    die "$command[0] $how$said\n";
}

# Reads both pipes to their ends and waits for the process. Without a status, it was killed at the deadline.
sub follow {
    my ($pid, $out, $err) = @_;
    my $end  = now() + $deadline;
    my %text = (out => '', err => '');
    my %open = (out => $out, err => $err);
    while (%open and length $text{out} <= $most_bytes) {
        my $left = $end - now();
        last if $left <= 0;
        my $ready = '';
        vec($ready, fileno $_, 1) = 1 for values %open;
        my $count = select($ready, undef, undef, $left);
        next if $count < 0 and $!{EINTR};
        last if $count <= 0;
        for my $name (keys %open) {
            next unless vec($ready, fileno $open{$name}, 1);
            my $got = sysread($open{$name}, my $chunk, 262144);
            next if not defined $got and $!{EINTR};
            if ($got) { $text{$name} .= $chunk if $name eq 'out' or length $text{err} < 65536 }
            else      { delete $open{$name} }
        }
    }
    my $status = %open ? undef : wait_for($pid, $end);
    if (not defined $status) {
        kill 'TERM', -$pid;
        wait_for($pid, now() + 1);
        kill 'KILL', -$pid;
        wait_for($pid, now() + 1);
    }
    return ($status, $text{out}, $text{err});
}

# The process's status, if it ends by then.
sub wait_for {
    my ($pid, $end) = @_;
    while (1) {
        my $found = waitpid($pid, POSIX::WNOHANG());
        return $? if $found == $pid;
        return 0  if $found < 0;
        return if now() >= $end;
        Time::HiRes::sleep(0.005);
    }
}

sub now { return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

sub assemble {
    my ($options, $answer) = @_;
    my %zero = map { $_ => 0 } qw(totalcpus queuedcpus usedcpus queuedjobs runningjobs);
    my %info = (
        cluster => {
            lrms_type => 'torque', lrms_glue_type => 'torque', lrms_version => '', cpudistribution => '', %zero,
            %{ map_of($answer->{cluster}) },
        },
        queues => {},
        jobs   => {},
        nodes  => map_of($answer->{nodes}),
    );
    my $queues = map_of($answer->{queues});
    for my $name (keys %{ map_of($options->{queues}) }) {
        my %users = map { $_ => { freecpus => { 0 => 0 }, queuelength => 0 } }
            texts(map_of($options->{queues}{$name})->{users});
        $info{queues}{$name} = {
            status => -1, maxrunning => 0, running => 0, queued => 0, totalcpus => 0, nodes => [], users => \%users,
            %{ map_of($queues->{$name}) },
        };
    }
    # A job that TORQUE has forgotten, or that never got there, is over, and the scan reports it. If TORQUE did not
    # answer, or the job has no id yet, nothing is known: `Q`, the one word for waiting jobs in ARC 6 and 7.
    my $jobs   = map_of($answer->{jobs});
    my $silent = texts($answer->{problems}) || ref $answer->{cluster} ne 'HASH';
    for my $id (texts($options->{jobs})) {
        my $status = $id =~ /^refused\./ ? 'EXECUTED' : $silent || $id !~ /^[0-9]/ ? 'Q' : 'EXECUTED';
        $info{jobs}{$id} = ref $jobs->{$id} eq 'HASH'
            ? $jobs->{$id}
            : { status => $status, cpus => 1, nodes => [], comment => [] };
    }
    return \%info;
}

# What ARC has no key for in a module's answer goes to where its renderer looks: that the queue's execution environment
# is a virtual machine, and the images in the share's description. What arc.conf says of them stays.
sub advertise {
    my ($options, $answer) = @_;
    my $images = map_of($answer->{images});
    my $config = do { no warnings 'once'; map_of($CEInfo::config) };
    for my $name (keys %{ map_of($options->{queues}) }) {
        my $environment = map_of($config->{xenvs})->{$name};
        $environment->{VirtualMachine} = 1
            if ref $environment eq 'HASH' and not defined $environment->{VirtualMachine};
        my $share = $options->{queues}{$name};
        next unless ref $share eq 'HASH' and not $share->{Description};
        my @names = texts($images->{$name});
        $share->{Description} = 'Jobs run in virtual machines'
            . (@names ? ' of the image ' . join(' or ', @names) : '');
    }
    return;
}

sub texts  { my ($value) = @_; return ref $value eq 'ARRAY' ? grep { defined and not ref } @$value : () }
sub map_of { my ($value) = @_; return ref $value eq 'HASH' ? $value : {} }

# The first line of an exception.
sub reason {
    my ($error, $otherwise) = @_;
    my ($line) = ($error || '') =~ /(\S[^\n]*)/;
    return defined $line ? $line : $otherwise;
}

sub complain { return write_log('warning', @_) }
sub mention  { return write_log('info',    @_) }

# To the log of the information providers where there is one.
sub write_log {
    my ($level, $message) = @_;
    # The log takes bytes; CEinfo.pl prints what goes into its document as characters.
    utf8::encode($message) if utf8::is_utf8($message);
    my $log = eval { require LogUtils; LogUtils->getLogger(__PACKAGE__) };
    if    ($log)                { $log->$level("vmbatch info: $message") }
    elsif ($level eq 'warning') { print STDERR "VMBATCHmod: vmbatch info: $message\n" }
    return;
}

1;
